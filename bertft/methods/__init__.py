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
from bertft.methods.base import NewModules
from bertft.methods.component import MethodComponent, ParamGroup

__all__ = ["attach_components", "build_components", "collect_param_groups", "trained_tensors"]


def build_components(
    method: Any, learning_rate: float | None, new_parameters: Iterable[str]
) -> list[MethodComponent]:
    """Parts of ``method`` (a MethodConfig); ``new_parameters`` names parameters that no checkpoint
    had.
    """
    components: list[MethodComponent] = [
        NewModules(new_parameters, learning_rate or method.head_learning_rate)
    ]
    for name in METHODS.names():
        settings = getattr(method, name)
        if settings is not None:
            components.append(
                METHODS.implementation(name, "build")(settings, method, learning_rate)
            )
    return sorted(components, key=lambda part: part.attach_order)


def attach_components(components: Sequence[MethodComponent], model: nn.Module) -> None:
    """Attach every part, in the order given."""
    for component in components:
        component.attach(model)


def collect_param_groups(
    components: Sequence[MethodComponent], model: nn.Module
) -> list[ParamGroup]:
    """The groups of all parts: each trained parameter of the model in exactly one."""
    param_groups = [
        group
        for component in components
        for group in component.param_groups(model)
        if group.parameters
    ]
    names = [
        name for group in param_groups if not group.training_only for name, _ in group.parameters
    ]
    trained_names = {
        name for name, parameter in model.named_parameters() if parameter.requires_grad
    }
    if sorted(names) != sorted(trained_names):
        mismatched = (
            sorted(trained_names.symmetric_difference(names))[:3] or "one parameter in two groups"
        )
        raise BertftError(f"the parts do not agree on what trains: {mismatched}")
    return param_groups


def trained_tensors(model: nn.Module) -> dict[str, Any]:
    """What a checkpoint must hold beside the base: trained parameters, and the parts' buffers."""
    tensors: dict[str, Any] = {
        name: tensor for name, tensor in model.named_parameters() if tensor.requires_grad
    }
    adapter_buffers = {name for name, _ in model.named_buffers() if ".adapter." in name}
    persistent = set(model.state_dict()) & adapter_buffers
    tensors |= {name: each for name, each in model.named_buffers() if name in persistent}
    return tensors
