"""A method is a composition of parts, each registered under the name of its node.

    parts = build(method, rate, new)       the parts of a configured method, in attaching order
    attach(parts, model)                   changes the model in place; what trains is settled then

``bertft.config.registry.METHODS`` names the function ``build(settings, method, rate) -> Part`` of
each, where ``rate`` is trainer.learning_rate (None: the part's own).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

from bertft.config.registry import METHODS
from bertft.errors import BertftError
from bertft.methods.new_modules import NewModules
from bertft.methods.part import Group, Part

__all__ = ["attach", "build", "groups", "trained_tensors"]


def build(method: Any, rate: float | None, new: Iterable[str]) -> list[Part]:
    """Parts of ``method`` (a MethodConfig); ``new`` names parameters that no checkpoint had."""
    parts: list[Part] = [NewModules(new, rate or method.head_learning_rate)]
    for name in METHODS.names():
        settings = getattr(method, name)
        if settings is not None:
            parts.append(METHODS.implementation(name, "build")(settings, method, rate))
    return sorted(parts, key=lambda part: part.order)


def attach(parts: Sequence[Part], model: nn.Module) -> None:
    """Attach every part, in the order given."""
    for part in parts:
        part.attach(model)


def groups(parts: Sequence[Part], model: nn.Module) -> list[Group]:
    """The groups of all parts: each trained parameter of the model in exactly one."""
    found = [group for part in parts for group in part.groups(model) if group.parameters]
    names = [name for group in found if not group.beside for name, _ in group.parameters]
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    if sorted(names) != sorted(trained):
        odd = sorted(trained.symmetric_difference(names))[:3] or "one parameter in two groups"
        raise BertftError(f"the parts do not agree on what trains: {odd}")
    return found


def trained_tensors(model: nn.Module) -> dict[str, Any]:
    """What a checkpoint must hold beside the base: trained parameters, and the parts' buffers."""
    tensors: dict[str, Any] = {
        name: each for name, each in model.named_parameters() if each.requires_grad
    }
    plain = {name for name, _ in model.named_buffers() if ".adapter." in name}
    persistent = set(model.state_dict()) & plain
    tensors |= {name: each for name, each in model.named_buffers() if name in persistent}
    return tensors
