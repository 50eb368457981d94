"""What of the pretrained base trains: everything, its biases alone, or its top layers.

everything   full fine-tuning (Devlin et al. 2019, arXiv 1810.04805, §4)
biases       BitFit: every bias of the encoder (Ben Zaken et al. 2022, arXiv 2106.10199, §3)
last_k       the top k layers and what lies above them
nothing      the base stays as it is
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from torch import nn

from bertft.config.method_components.base import TrainableBaseConfig
from bertft.errors import UsageError
from bertft.methods.component import MethodComponent, ParamGroup, split_by_weight_decay
from bertft.models.families import encoder_layers
from bertft.models.linear_layers import plain_path

__all__ = [
    "BaseParameters",
    "NewModules",
    "build",
]


class NewModules(MethodComponent):
    """Freezes the whole model and sets its ``new_parameters`` parameters free; attached before all
    others.
    """

    name = "head"
    attach_order = 0
    adapts_layers = False

    def __init__(self, new_parameters: Iterable[str], learning_rate: float) -> None:
        self.new_parameters, self.learning_rate = (
            frozenset(map(plain_path, new_parameters)),
            learning_rate,
        )

    def attach(self, model: nn.Module) -> None:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(plain_path(name) in self.new_parameters)

    def _new_named_parameters(self, model: nn.Module) -> list[tuple[str, nn.Parameter]]:
        return [
            pair for pair in model.named_parameters() if plain_path(pair[0]) in self.new_parameters
        ]

    def param_groups(self, model: nn.Module) -> Iterator[ParamGroup]:
        yield from split_by_weight_decay(
            self.name, self._new_named_parameters(model), self.learning_rate
        )

    def parameter_counts(self, model: nn.Module) -> dict[str, int]:
        count = sum(parameter.numel() for _, parameter in self._new_named_parameters(model))
        return {"trainable": count, "kept": count, "exported": count}


def build(
    settings: TrainableBaseConfig, method: Any, learning_rate: float | None
) -> BaseParameters:
    """``learning_rate`` overrides ``settings.learning_rate``."""
    return BaseParameters(settings, learning_rate or settings.learning_rate)


class BaseParameters(MethodComponent):
    """Sets parameters of the base free that are not trained already (new modules are)."""

    name = "base"
    attach_order = 10
    adapts_layers = False

    def __init__(self, settings: TrainableBaseConfig, learning_rate: float) -> None:
        self.settings, self.learning_rate = settings, learning_rate
        self.trains_base = settings.train != "nothing"
        self._trained_names: frozenset[str] = frozenset()

    def attach(self, model: nn.Module) -> None:
        selected = self._select_names(model)
        frozen = {
            name for name, candidate in model.named_parameters() if not candidate.requires_grad
        }
        self._trained_names = frozenset(plain_path(name) for name in selected if name in frozen)
        if (
            self.trains_base and not self._trained_names
        ):  # ModernBERT's linear layers have no biases
            config: Any = model.config
            raise UsageError(
                f"a {config.model_type} model has no {self.settings.train} to train",
                where="method.base.train",
                hint="Take train=last_k or train=everything",
            )
        for name, parameter in model.named_parameters():
            if plain_path(name) in self._trained_names:
                parameter.requires_grad_(True)

    def _select_names(self, model: nn.Module) -> list[str]:
        names = [name for name, _ in model.named_parameters()]
        if self.settings.train == "everything":
            return names
        if self.settings.train == "biases":
            return [name for name in names if name.rpartition(".")[2] == "bias"]
        if self.settings.train == "last_k":
            return self._top_layer_names(model)
        return []

    def _top_layer_names(self, model: nn.Module) -> list[str]:
        layers = encoder_layers(model)
        layer_count = self.settings.last_k or 1
        if layer_count > len(layers):
            raise UsageError(
                f"{layer_count} layers are more than the model's {len(layers)}",
                where="method.base.last_k",
                hint=f"Take at most {len(layers)}",
            )
        top_ids = {id(p) for layer in list(layers)[-layer_count:] for p in layer.parameters()}
        below_ids: set[int] = set()
        for name, child in model.base_model.named_children():  # type: ignore[union-attr]
            # Beside the layers an encoder keeps what all of them share, as relative positions.
            if name.startswith("embeddings") or any(module is layers for module in child.modules()):
                below_ids |= {id(p) for p in child.parameters()} - top_ids
        # What lies above the layers (a pretrained pooler, a final norm) trains with them.
        return [name for name, p in model.named_parameters() if id(p) not in below_ids]

    def param_groups(self, model: nn.Module) -> Iterator[ParamGroup]:
        trained = [
            pair for pair in model.named_parameters() if plain_path(pair[0]) in self._trained_names
        ]
        yield from split_by_weight_decay(self.name, trained, self.learning_rate)

    def parameter_counts(self, model: nn.Module) -> dict[str, int]:
        count = sum(
            parameter.numel()
            for name, parameter in model.named_parameters()
            if plain_path(name) in self._trained_names
        )
        return {"trainable": count, "kept": count, "exported": count}
