"""A LoRA or DoRA adapter that was read in peft's format: it runs and folds, and is not trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from bertft.methods.low_rank import export
from bertft.methods.low_rank.peft_form import attach_peft, lora_settings, lora_tensors
from bertft.methods.part import Group, Part

__all__ = ["AttachedLowRank", "from_peft"]


def from_peft(settings: Mapping[str, Any], tensors: dict[str, Tensor]) -> AttachedLowRank:
    """``settings`` and ``tensors`` are those of adapter_config.json and its weights."""
    return AttachedLowRank(settings, tensors)


class AttachedLowRank(Part):
    """The updates of an adapter that was trained elsewhere."""

    name = "low_rank"

    def __init__(self, settings: Mapping[str, Any], tensors: dict[str, Tensor]) -> None:
        self.settings, self.tensors = settings, tensors

    def attach(self, model: nn.Module) -> None:
        attach_peft(model, self.settings, self.tensors)

    def groups(self, model: nn.Module) -> Iterator[Group]:
        return iter(())

    def counts(self, model: nn.Module) -> dict[str, int]:
        kept = sum(
            each.numel()
            for layer in export.adapted_layers(model).values()
            for each in layer.adapter.parameters()
        )
        return {"trainable": kept, "kept": kept, "exported": kept}

    def peft_adapter(self, model: nn.Module) -> tuple[dict[str, Any], dict[str, Tensor]]:
        tensors = lora_tensors(model)
        return lora_settings(tensors), tensors

    def fold(self, model: nn.Module) -> int:
        return export.fold(model)
