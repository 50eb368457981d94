"""A LoRA or DoRA adapter that was read in peft's format: it runs and folds, and is not trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from bertft.methods.low_rank import export
from bertft.methods.low_rank.peft_form import attach_peft, peft_config, peft_tensors
from bertft.methods.part import ParamGroup, MethodComponent

__all__ = ["ImportedLowRank", "from_peft"]


def from_peft(settings: Mapping[str, Any], tensors: dict[str, Tensor]) -> ImportedLowRank:
    """``settings`` and ``tensors`` are those of adapter_config.json and its weights."""
    return ImportedLowRank(settings, tensors)


class ImportedLowRank(MethodComponent):
    """The updates of an adapter that was trained elsewhere."""

    name = "low_rank"

    def __init__(self, settings: Mapping[str, Any], tensors: dict[str, Tensor]) -> None:
        self.settings, self.tensors = settings, tensors

    def attach(self, model: nn.Module) -> None:
        attach_peft(model, self.settings, self.tensors)

    def param_groups(self, model: nn.Module) -> Iterator[ParamGroup]:
        return iter(())

    def parameter_counts(self, model: nn.Module) -> dict[str, int]:
        parameter_count = sum(
            parameter.numel()
            for layer in export.low_rank_layers(model).values()
            for parameter in layer.adapter.parameters()
        )
        return {"trainable": parameter_count, "kept": parameter_count, "exported": parameter_count}

    def peft_adapter(self, model: nn.Module) -> tuple[dict[str, Any], dict[str, Tensor]]:
        tensors = peft_tensors(model)
        return peft_config(tensors), tensors

    def fold(self, model: nn.Module) -> int:
        return export.fold_updates(model)
