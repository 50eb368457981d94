"""Match the trained output layer of a base with the classes of the task.

same classes in another order    rows of W and b are reordered by name
other classes                    W and b are initialized again, as for a head of another size
another task, surplus weights    W and b are initialized again: the outputs have another meaning
one number (regression)          W and b are kept
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

import torch
from torch import nn

from bertft.data.labels import class_name_as_number
from bertft.models.loading import LoadedEncoder, head_parameters, output_layer
from bertft.utils.messages import format_list

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["align_head", "has_trained_head", "reorder_outputs"]

_PLACEHOLDER = "LABEL_"
_MAX_SHOWN_CLASSES = 6
_NEW_LAYER = "the output layer is newly initialized"


def has_trained_head(loaded: LoadedEncoder) -> bool:
    """Whether the base has weights of a head, of any size."""
    head = set(head_parameters(loaded.model))
    return bool(head & (loaded.loaded_parameters | loaded.mismatched_parameters))


def align_head(
    loaded: LoadedEncoder,
    base_classes: Sequence[str],
    task_classes: Sequence[str] | None,
    other_meaning: str = "",
) -> str:
    """Make the outputs of ``loaded``'s head those of ``task_classes``; return what was done.

    ``base_classes`` are the classes that the base's config lists; ``task_classes`` None: the output
    is a number. ``other_meaning``: what the base's head was trained for, if it is not the task.
    The text is empty if the base has no trained head. A new layer is drawn from torch's generator.
    """
    model = loaded.model
    head_names = set(head_parameters(model))
    if loaded.mismatched_parameters & head_names:
        outputs = f"{len(base_classes)} output{'s' if len(base_classes) != 1 else ''}"
        needed = "one number" if task_classes is None else f"{len(task_classes)} classes"
        return f"the head of the base has {outputs}, the task has {needed}: {_NEW_LAYER}"
    if not head_names or not head_names <= loaded.loaded_parameters:
        return ""
    if loaded.left_out:
        _initialize(output_layer(model), model)
        return (
            "the head of the base has weights without a place in the model"
            f" ({format_list(list(loaded.left_out), 3)}): {_NEW_LAYER}"
        )
    if other_meaning:
        _initialize(output_layer(model), model)
        return f"the base has a head for {other_meaning}: {_NEW_LAYER}"
    if task_classes is None:
        return "the base has a regression head: it is kept"
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
    _initialize(output_layer(model), model)
    return (
        f"the base has a head for {format_list(base_classes, _MAX_SHOWN_CLASSES)}, not for"
        f" {format_list(task_classes, _MAX_SHOWN_CLASSES)}: {_NEW_LAYER}"
    )


def _initialize(output: nn.Linear, model: PreTrainedModel) -> None:
    with torch.no_grad():
        nn.init.normal_(output.weight, 0.0, getattr(model.config, "initializer_range", 0.02))
        if output.bias is not None:
            output.bias.zero_()


def reorder_outputs(
    model: PreTrainedModel, current_classes: Sequence[str], new_classes: Sequence[str]
) -> bool:
    """Reorder the outputs of ``model`` in place, from ``current_classes`` to ``new_classes``.

    Returns:
        False, without a change, if they are not the same classes.
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
    """The output of each of ``new_classes``; None if they are not the same classes.

    transformers' placeholders LABEL_0, LABEL_1, ... are the classes 0, 1, ...
    """
    if all(name == f"{_PLACEHOLDER}{number}" for number, name in enumerate(current_classes)):
        current_classes = [name.removeprefix(_PLACEHOLDER) for name in current_classes]
    current = [_identity(name) for name in current_classes]
    new = [_identity(name) for name in new_classes]
    if set(current) != set(new) or len(set(current)) < len(current) or len(set(new)) < len(new):
        return None
    return [current.index(name) for name in new]


def _identity(name: str) -> Decimal | str:
    """``1`` and ``1.0`` are the same class, as in data files."""
    number = class_name_as_number(name)
    return name if number is None else number
