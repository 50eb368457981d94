"""The modules that no checkpoint had: the task head, maybe a pooler. They train in every method.

They are told by the missing keys of loading, not by name: a pooler that stays at its random start,
or a head that is not saved, silently gives another model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import nn

from bertft.methods.decay import split_by_weight_decay
from bertft.methods.part import ParamGroup, MethodComponent
from bertft.models.wrapper import plain_path

__all__ = ["NewModules"]


class NewModules(MethodComponent):
    """Freezes the whole model and sets its ``new_parameters`` parameters free; attached before all others."""

    name = "head"
    attach_order = 0
    adapts_layers = False

    def __init__(self, new_parameters: Iterable[str], learning_rate: float) -> None:
        self.new_parameters, self.learning_rate = frozenset(map(plain_path, new_parameters)), learning_rate

    def attach(self, model: nn.Module) -> None:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(plain_path(name) in self.new_parameters)

    def _new_named_parameters(self, model: nn.Module) -> list[tuple[str, nn.Parameter]]:
        return [pair for pair in model.named_parameters() if plain_path(pair[0]) in self.new_parameters]

    def param_groups(self, model: nn.Module) -> Iterator[ParamGroup]:
        yield from split_by_weight_decay(self.name, self._new_named_parameters(model), self.learning_rate)

    def parameter_counts(self, model: nn.Module) -> dict[str, int]:
        count = sum(parameter.numel() for _, parameter in self._new_named_parameters(model))
        return {"trainable": count, "kept": count, "exported": count}
