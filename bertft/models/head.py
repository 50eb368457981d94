"""The output layer that a base brings along, and the classes of the task to be learnt.

same classes in another order    rows of W and b are reordered by name
other classes                    W and b are drawn anew, as for a head of another size
a number                         W and b are kept
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import torch
from torch import nn

from bertft.data.labels import class_name_as_number
from bertft.models.loading import LoadedEncoder, head_parameters, output_layer
from bertft.utils.messages import format_list

__all__ = ["align_head", "brings_head", "reorder_outputs"]

_PLACEHOLDER = "LABEL_"
_MAX_SHOWN_CLASSES = 6


def brings_head(loaded: LoadedEncoder) -> bool:
    """Whether the base has weights of a head, of whatever size."""
    head = set(head_parameters(loaded.model))
    return bool(head & (loaded.loaded_parameters | loaded.mismatched_parameters))


def align_head(
    loaded: LoadedEncoder, base_classes: Sequence[str], task_classes: Sequence[str] | None
) -> str:
    """Make the outputs of ``loaded``'s head those of ``task_classes``; what was done, in one
    sentence.

    ``base_classes`` are the classes that the base's config lists; ``task_classes`` None: the output
    is a number. Empty where the base has no trained head. A new layer is drawn from torch's
    generator.
    """
    model: Any = loaded.model
    head_names = set(head_parameters(model))
    if loaded.mismatched_parameters & head_names:
        count = f"{len(base_classes)} other output{'s' if len(base_classes) != 1 else ''}"
        return f"the base has a head for {count}: its output layer is new"
    if not head_names or not head_names <= loaded.loaded_parameters:
        return ""
    if task_classes is None:
        return "the base has a head for a number: it is kept"
    if _class_order(base_classes, task_classes) == list(range(len(task_classes))):
        return (
            "the base has a head for the same classes:"
            f" {format_list(task_classes, _MAX_SHOWN_CLASSES)}"
        )
    if reorder_outputs(model, base_classes, task_classes):
        return (
            "the base has a head for the same classes in another order"
            f" ({format_list(base_classes, _MAX_SHOWN_CLASSES)}): its outputs are reordered"
        )
    output = output_layer(model)
    with torch.no_grad():
        nn.init.normal_(output.weight, 0.0, getattr(model.config, "initializer_range", 0.02))
        if output.bias is not None:
            output.bias.zero_()
    return (
        f"the base has a head for {format_list(base_classes, _MAX_SHOWN_CLASSES)}, not for"
        f" {format_list(task_classes, _MAX_SHOWN_CLASSES)}:"
        " its output layer is new"
    )


def reorder_outputs(model: Any, current_classes: Sequence[str], new_classes: Sequence[str]) -> bool:
    """Make the outputs of ``model``, which are those of ``current_classes``, those of
    ``new_classes``, in place.

    False, and nothing is changed, unless both name the same classes.
    """
    order = _class_order(current_classes, new_classes)
    if order is None:
        return False
    output = output_layer(model)
    with torch.no_grad():
        for parameter in (output.weight, output.bias):
            if parameter is not None:
                parameter.copy_(parameter[order].clone())
    model.config.id2label = dict(enumerate(new_classes))
    model.config.label2id = {name: number for number, name in enumerate(new_classes)}
    return True


def _class_order(current_classes: Sequence[str], new_classes: Sequence[str]) -> list[int] | None:
    """The output of each of ``new_classes``; None unless both name the same classes.

    transformers' placeholders LABEL_0, LABEL_1, ... are the classes 0, 1, ...
    """
    if all(name == f"{_PLACEHOLDER}{number}" for number, name in enumerate(current_classes)):
        current_classes = [name.removeprefix(_PLACEHOLDER) for name in current_classes]
    places = {_identity(name): number for number, name in enumerate(current_classes)}
    wanted = [_identity(name) for name in new_classes]
    if (
        len(places) < len(current_classes)
        or len(set(wanted)) < len(wanted)
        or set(wanted) != set(places)
    ):
        return None
    return [places[name] for name in wanted]


def _identity(name: str) -> Decimal | str:
    """``1`` and ``1.0`` are one class, as they are in files."""
    number = class_name_as_number(name)
    return name if number is None else number
