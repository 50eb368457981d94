"""Training parameters of the base itself: all of them, its biases, or its top layers.

everything   full fine-tuning (Devlin et al. 2019, arXiv 1810.04805, §4)
biases       BitFit: every bias of the encoder (Ben Zaken et al. 2022, arXiv 2106.10199, §3)
last_k       the top k layers and what is above them
nothing      the base stays frozen

With layer-wise learning rate decay (Howard and Ruder 2018, arXiv 1801.06146, §3.2; Clark et al.
2020, arXiv 2003.10555, appendix B), a layer with n layers above it has decayⁿ times the rate of the
top layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from torch import nn

from bertft.config.method import MethodConfig
from bertft.config.method_components.base import TrainableBaseConfig
from bertft.errors import UsageError
from bertft.methods.component import MethodComponent, NamedParameter, ParamGroup
from bertft.models.families import encoder_family, encoder_layers
from bertft.models.linear_layers import plain_path

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = [
    "BaseParameters",
    "NewModules",
    "build",
]


class NewModules(MethodComponent):
    """Freezes the model except for new parameters, such as those of a new head; attached first.

    ``attach_components`` selects them, because they are known when the model is loaded.
    """

    name = "head"
    attach_order = 0
    adapts_layers = False

    def __init__(self, new_parameters: Iterable[str], learning_rate: float) -> None:
        self.select(new_parameters)
        self.learning_rate = learning_rate

    def select(self, new_parameters: Iterable[str]) -> None:
        """Train the parameters with these names."""
        self.new_parameters: frozenset[str] = frozenset(map(plain_path, new_parameters))

    def attach(self, model: nn.Module) -> None:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(plain_path(name) in self.new_parameters)

    def named_parameters(self, model: nn.Module) -> Iterator[NamedParameter]:
        return _select_parameters(model, self.new_parameters)


def build(
    settings: TrainableBaseConfig, method: MethodConfig, learning_rate: float | None
) -> BaseParameters:
    """``learning_rate`` overrides ``settings.learning_rate``."""
    return BaseParameters(settings, learning_rate or settings.learning_rate)


class BaseParameters(MethodComponent):
    """Trains parameters of the base, except those of new modules, which train already."""

    name = "base"
    attach_order = 10
    adapts_layers = False

    def __init__(self, settings: TrainableBaseConfig, learning_rate: float) -> None:
        self.settings, self.learning_rate = settings, learning_rate
        self.trains_base = settings.train != "nothing"
        self._trained_names: frozenset[str] = frozenset()
        self._layers_above: dict[str, int] = {}

    def attach(self, model: PreTrainedModel) -> None:
        if self.settings.layer_decay != 1:
            self._layers_above = _layers_above(model)
        selected = self._select_names(model)
        frozen = {
            name for name, candidate in model.named_parameters() if not candidate.requires_grad
        }
        self._trained_names = frozenset(plain_path(name) for name in selected if name in frozen)
        if self.trains_base and not self._trained_names:  # ModernBERT has no biases
            raise UsageError(
                f"a {encoder_family(model).model_type} model has no {self.settings.train} to train",
                where="method.base.train",
                hint="Set it to last_k or everything",
            )
        for name, parameter in model.named_parameters():
            if plain_path(name) in self._trained_names:
                parameter.requires_grad_(True)

    def _select_names(self, model: PreTrainedModel) -> list[str]:
        names = [name for name, _ in model.named_parameters()]
        if self.settings.train == "everything":
            return names
        if self.settings.train == "biases":
            return [name for name in names if name.rpartition(".")[2] == "bias"]
        if self.settings.train == "last_k":
            return self._top_layer_names(model)
        return []

    def _top_layer_names(self, model: PreTrainedModel) -> list[str]:
        layers = encoder_layers(model)
        layer_count = self.settings.last_k or 1
        if layer_count > len(layers):
            raise UsageError(
                f"the model has {len(layers)} layers, fewer than {layer_count}",
                where="method.base.last_k",
                hint=f"Set it to {len(layers)} or less",
            )
        top_ids = {id(p) for layer in list(layers)[-layer_count:] for p in layer.parameters()}
        below_ids = _ids_below_the_layers(model, layers) - top_ids
        # Modules above the layers (a pretrained pooler, a final norm) train with them.
        return [name for name, p in model.named_parameters() if id(p) not in below_ids]

    def named_parameters(self, model: nn.Module) -> Iterator[NamedParameter]:
        return _select_parameters(model, self._trained_names)

    def param_groups(self, model: nn.Module) -> Iterator[ParamGroup]:
        """With ``layer_decay``, a group per layer: ``base`` at the top, ``base_below_1``, ..."""
        for group in super().param_groups(model):
            by_depth: dict[int, list[NamedParameter]] = {}
            for name, parameter in group.parameters:
                depth = self._layers_above.get(plain_path(name), 0)
                by_depth.setdefault(depth, []).append((name, parameter))
            for depth, parameters in sorted(by_depth.items()):
                place = f"{self.name}_below_{depth}" if depth else self.name
                name = place + group.name.removeprefix(self.name)
                rate = group.learning_rate * self.settings.layer_decay**depth
                yield ParamGroup(name, tuple(parameters), rate, group.use_weight_decay)


def _layers_above(model: PreTrainedModel) -> dict[str, int]:
    """Name of a parameter of the base → the number of layers above it.

    It is 0 in the top layer and above, and L in the embeddings and in what all L layers share.
    """
    try:
        layers = encoder_layers(model)
    except UsageError as error:
        raise UsageError(
            f"the layers of a {model.config.model_type} model share weights, or are not one list of"
            " layers",
            where="method.base.layer_decay",
            hint="Set it to 1",
        ) from error
    depths = dict.fromkeys(_ids_below_the_layers(model, layers), len(layers))
    for depth, layer in enumerate(reversed(list(layers))):
        depths |= {id(parameter): depth for parameter in layer.parameters()}
    return {
        plain_path(name): depths[id(parameter)]
        for name, parameter in model.named_parameters()
        if id(parameter) in depths
    }


def _ids_below_the_layers(model: PreTrainedModel, layers: nn.ModuleList) -> set[int]:
    """ids of the parameters of the embeddings, of the layers, and of what all layers share."""
    ids: set[int] = set()
    for name, child in model.base_model.named_children():
        # Next to its layers an encoder has what all of them share, such as relative positions.
        if name.startswith("embeddings") or any(module is layers for module in child.modules()):
            ids |= {id(parameter) for parameter in child.parameters()}
    return ids


def _select_parameters(model: nn.Module, plain_names: frozenset[str]) -> Iterator[NamedParameter]:
    for name, parameter in model.named_parameters():
        if plain_path(name) in plain_names:
            yield name, parameter
