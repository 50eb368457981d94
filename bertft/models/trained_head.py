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

from bertft.config.messages import listing
from bertft.data.labels import numeric
from bertft.models.load import Loaded, head_parameters, last_linear

__all__ = ["align_head", "brings_head", "reorder_outputs"]

_PLACEHOLDER = "LABEL_"
_SHOWN = 6


def brings_head(loaded: Loaded) -> bool:
    """Whether the base has weights of a head, of whatever size."""
    head = set(head_parameters(loaded.model))
    return bool(head & (loaded.present | loaded.replaced))


def align_head(loaded: Loaded, own: Sequence[str], names: Sequence[str] | None) -> str:
    """Make the outputs of ``loaded``'s head those of ``names``; what was done, in one sentence.

    ``own`` are the classes that the base's config lists; ``names`` None: the output is a number.
    Empty where the base has no trained head.
    A new layer is drawn from torch's generator.
    """
    model: Any = loaded.model
    head = set(head_parameters(model))
    if loaded.replaced & head:
        count = f"{len(own)} other output{'s' if len(own) != 1 else ''}"
        return f"the base has a head for {count}: its output layer is new"
    if not head or not head <= loaded.present:
        return ""
    if names is None:
        return "the base has a head for a number: it is kept"
    if _order(own, names) == list(range(len(names))):
        return f"the base has a head for the same classes: {listing(names, _SHOWN)}"
    if reorder_outputs(model, own, names):
        return (
            "the base has a head for the same classes in another order"
            f" ({listing(own, _SHOWN)}): its outputs are reordered"
        )
    last = last_linear(model)
    with torch.no_grad():
        nn.init.normal_(last.weight, 0.0, getattr(model.config, "initializer_range", 0.02))
        if last.bias is not None:
            last.bias.zero_()
    return (
        f"the base has a head for {listing(own, _SHOWN)}, not for {listing(names, _SHOWN)}:"
        " its output layer is new"
    )


def reorder_outputs(model: Any, own: Sequence[str], names: Sequence[str]) -> bool:
    """Make the outputs of ``model``, which are those of ``own``, those of ``names``, in place.

    False, and nothing is changed, unless both name the same classes.
    """
    order = _order(own, names)
    if order is None:
        return False
    last = last_linear(model)
    with torch.no_grad():
        for parameter in (last.weight, last.bias):
            if parameter is not None:
                parameter.copy_(parameter[order].clone())
    model.config.id2label = dict(enumerate(names))
    model.config.label2id = {name: number for number, name in enumerate(names)}
    return True


def _order(own: Sequence[str], names: Sequence[str]) -> list[int] | None:
    """The output of each of ``names``; None unless both name the same classes.

    transformers' placeholders LABEL_0, LABEL_1, ... are the classes 0, 1, ...
    """
    if all(name == f"{_PLACEHOLDER}{number}" for number, name in enumerate(own)):
        own = [name.removeprefix(_PLACEHOLDER) for name in own]
    places = {_identity(name): number for number, name in enumerate(own)}
    wanted = [_identity(name) for name in names]
    if len(places) < len(own) or len(set(wanted)) < len(wanted) or set(wanted) != set(places):
        return None
    return [places[name] for name in wanted]


def _identity(name: str) -> Decimal | str:
    """``1`` and ``1.0`` are one class, as they are in files."""
    number = numeric(name)
    return name if number is None else number
