"""What of the pretrained base trains: everything, its biases alone, or its top layers.

everything   full fine-tuning (Devlin et al. 2019, arXiv 1810.04805, §4)
biases       BitFit: every bias of the encoder (Ben Zaken et al. 2022, arXiv 2106.10199, §3)
last_k       the top k layers and what lies above them
nothing      the base stays as it is
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from bertft.config.parts.base import Settings
from bertft.errors import UsageError
from bertft.methods.decay import by_decay
from bertft.methods.part import Group, Part
from bertft.models.families import layers_of
from bertft.models.wrapper import plain_path

__all__ = ["Base", "build"]


def build(settings: Settings, method: Any, rate: float | None) -> Base:
    """``rate`` overrides ``settings.learning_rate``."""
    return Base(settings, rate or settings.learning_rate)


class Base(Part):
    """Sets parameters of the base free that are not trained already (new modules are)."""

    name = "base"
    order = 10
    adapts_layers = False

    def __init__(self, settings: Settings, rate: float) -> None:
        self.settings, self.rate = settings, rate
        self.trains_base = settings.train != "nothing"
        self._names: frozenset[str] = frozenset()

    def attach(self, model: nn.Module) -> None:
        chosen = self._chosen(model)
        free = {name for name, each in model.named_parameters() if not each.requires_grad}
        self._names = frozenset(plain_path(name) for name in chosen if name in free)
        if self.trains_base and not self._names:  # ModernBERT's linear layers have no biases
            kind: Any = model.config
            raise UsageError(
                f"a {kind.model_type} model has no {self.settings.train} to train",
                where="method.base.train",
                hint="Take train=last_k or train=everything",
            )
        for name, parameter in model.named_parameters():
            if plain_path(name) in self._names:
                parameter.requires_grad_(True)

    def _chosen(self, model: nn.Module) -> list[str]:
        names = [name for name, _ in model.named_parameters()]
        if self.settings.train == "everything":
            return names
        if self.settings.train == "biases":
            return [name for name in names if name.rpartition(".")[2] == "bias"]
        if self.settings.train == "last_k":
            return self._top(model)
        return []

    def _top(self, model: nn.Module) -> list[str]:
        layers = layers_of(model)
        count = self.settings.last_k or 1
        if count > len(layers):
            raise UsageError(
                f"{count} layers are more than the model's {len(layers)}",
                where="method.base.last_k",
                hint=f"Take at most {len(layers)}",
            )
        top = {id(p) for layer in list(layers)[-count:] for p in layer.parameters()}
        below: set[int] = set()
        for name, child in model.base_model.named_children():  # type: ignore[union-attr]
            # Beside the layers an encoder keeps what all of them share, as relative positions.
            if name.startswith("embeddings") or any(each is layers for each in child.modules()):
                below |= {id(p) for p in child.parameters()} - top
        # What lies above the layers (a pretrained pooler, a final norm) trains with them.
        return [name for name, p in model.named_parameters() if id(p) not in below]

    def groups(self, model: nn.Module) -> Iterator[Group]:
        own = [pair for pair in model.named_parameters() if plain_path(pair[0]) in self._names]
        yield from by_decay(self.name, own, self.rate)

    def counts(self, model: nn.Module) -> dict[str, int]:
        count = sum(
            each.numel()
            for name, each in model.named_parameters()
            if plain_path(name) in self._names
        )
        return {"trainable": count, "kept": count, "exported": count}
