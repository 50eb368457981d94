"""A method is a composition of components, each registered under the name of its node.

    components = build_components(method, learning_rate)
    attach_components(components, model, new_parameters)    # changes the model in place

``bertft.config.registry.METHODS`` refers to the function ``build(settings, method, learning_rate)``
of each component, where ``learning_rate`` is trainer.learning_rate (None: the component's own).
Components are built before the run is seeded and before the model is loaded: only ``attach`` draws
random numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from bertft.config.method import MethodConfig
from bertft.config.registry import METHODS
from bertft.errors import BertftError
from bertft.methods.base import NewModules
from bertft.methods.component import MethodComponent, ParamGroup

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["attach_components", "build_components", "collect_param_groups", "trained_tensors"]


def build_components(
    method: MethodConfig, learning_rate: float | None = None
) -> list[MethodComponent]:
    """The components of ``method``, in attaching order.

    Args:
        method: The section ``method`` of a configuration.
        learning_rate: Replaces the components' own; None: it does not.
    """
    components: list[MethodComponent] = [NewModules((), learning_rate or method.head_learning_rate)]
    for name in METHODS.names():
        settings = getattr(method, name)
        if settings is not None:
            build = METHODS.implementation(name, "build")
            components.append(build(settings, method, learning_rate))
    return sorted(components, key=lambda component: component.attach_order)


def attach_components(
    components: Sequence[MethodComponent],
    model: PreTrainedModel,
    new_parameters: Iterable[str] = (),
) -> None:
    """Attach every component, in the order given.

    ``new_parameters``: names of the parameters of ``model`` that no checkpoint had, such as those
    of a new head. They are trained with every method.
    """
    for component in components:
        if isinstance(component, NewModules):
            component.select(new_parameters)
        component.attach(model)


def collect_param_groups(
    components: Sequence[MethodComponent], model: nn.Module
) -> list[ParamGroup]:
    """The non-empty groups of all components.

    Raises:
        BertftError: Not every trained parameter of the model is in exactly one group.
    """
    param_groups = [
        group
        for component in components
        for group in component.param_groups(model)
        if group.parameters
    ]
    names = sorted(
        name for group in param_groups if not group.training_only for name, _ in group.parameters
    )
    trained_names = sorted(
        name for name, parameter in model.named_parameters() if parameter.requires_grad
    )
    if names != trained_names:
        mismatched = sorted(set(trained_names).symmetric_difference(names))[:3]
        raise BertftError(
            "the parameter groups are not the trained parameters:"
            f" {mismatched or 'one parameter is in two groups'}"
        )
    return param_groups


def trained_tensors(model: nn.Module) -> dict[str, Tensor]:
    """What a checkpoint holds: trained parameters, and persistent buffers of adapters."""
    tensors: dict[str, Tensor] = {
        name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad
    }
    persistent = set(model.state_dict())
    tensors |= {
        name: buffer
        for name, buffer in model.named_buffers()
        if ".adapter." in name and name in persistent
    }
    return tensors
