"""The modules that no checkpoint had: the task head, maybe a pooler. They train in every method.

They are told by the missing keys of loading, not by name: a pooler that stays at its random start,
or a head that is not saved, silently gives another model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import nn

from bertft.methods.decay import by_decay
from bertft.methods.part import Group, Part
from bertft.models.wrapper import plain_path

__all__ = ["NewModules"]


class NewModules(Part):
    """Freezes the whole model and sets its ``new`` parameters free; attached before all others."""

    name = "head"
    order = 0
    adapts_layers = False

    def __init__(self, new: Iterable[str], rate: float) -> None:
        self.new, self.rate = frozenset(map(plain_path, new)), rate

    def attach(self, model: nn.Module) -> None:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(plain_path(name) in self.new)

    def _own(self, model: nn.Module) -> list[tuple[str, nn.Parameter]]:
        return [pair for pair in model.named_parameters() if plain_path(pair[0]) in self.new]

    def groups(self, model: nn.Module) -> Iterator[Group]:
        yield from by_decay(self.name, self._own(model), self.rate)

    def counts(self, model: nn.Module) -> dict[str, int]:
        count = sum(parameter.numel() for _, parameter in self._own(model))
        return {"trainable": count, "kept": count, "exported": count}
