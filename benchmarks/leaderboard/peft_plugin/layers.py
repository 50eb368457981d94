"""Attach layers of peft, and call AdaLoRA's allocator as peft's documentation says."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from peft import AdaLoraConfig, LoraConfig
from peft.tuners.adalora import AdaLoraModel
from peft.tuners.lora import LoraModel
from torch import Tensor, nn
from torch.optim import Optimizer

from benchmarks.leaderboard.peft_plugin import PeftLayersConfig
from bertft.config.method import MethodConfig
from bertft.methods.component import MethodComponent, NamedParameter

__all__ = ["PeftLayers", "build"]

_ROLES = {"query": "attention.self.query", "value": "attention.self.value"}
_ALL_LINEAR = [
    "attention.self.query", "attention.self.key", "attention.self.value",
    "attention.output.dense", "intermediate.dense", "output.dense",
]  # fmt: skip
# AdaLoRA: fraction of the steps before pruning, with fixed ranks at the end, weight of the penalty.
_BEGIN, _END, _ORTHOGONALITY = 0.1, 0.4, 0.1
_STEPS_BEFORE_ATTACHING = 1000  # AdaLoraConfig wants the number of steps; the first step sets it


def build(
    settings: PeftLayersConfig, method: MethodConfig, learning_rate: float | None
) -> PeftLayers:
    return PeftLayers(settings, learning_rate or settings.learning_rate)


class PeftLayers(MethodComponent):
    """LoRA, DoRA or AdaLoRA of peft on the linear layers of a BERT encoder.

    AdaLoRA starts with 1.5 × rank (rounded up), prunes from 10 % of the steps and fixes the ranks
    for the last 40 %, as ``method=svd_lora`` does.
    """

    name = "peft_layers"
    attach_order = 20
    foldable = False
    ineligible_reason = "ranks are still pruned"

    def __init__(self, settings: PeftLayersConfig, learning_rate: float) -> None:
        self.settings, self.learning_rate = settings, learning_rate
        self._tuner: LoraModel | AdaLoraModel | None = None

    def attach(self, model: nn.Module) -> None:
        encoder = getattr(model, str(model.base_model_prefix))
        trained = {name for name, value in model.named_parameters() if value.requires_grad}
        self._tuner = self._wrap(encoder)
        # peft freezes what it has not added; new modules such as the head stay trained.
        for name, parameter in model.named_parameters():
            if name in trained:
                parameter.requires_grad_(True)

    def _wrap(self, encoder: nn.Module) -> LoraModel | AdaLoraModel:
        settings = self.settings
        targets = _ALL_LINEAR if settings.targets == "all_linear" else [
            _ROLES[role] for role in settings.targets
        ]  # fmt: skip
        if settings.kind == "adalora":
            config = AdaLoraConfig(
                init_r=math.ceil(1.5 * settings.rank), target_r=settings.rank,
                beta1=0.85, beta2=0.85, deltaT=10, tinit=1, tfinal=1,
                total_step=_STEPS_BEFORE_ATTACHING,
                orth_reg_weight=_ORTHOGONALITY,
                lora_alpha=settings.alpha,  # type: ignore[arg-type]  # divided by r: any number
                lora_dropout=settings.dropout, target_modules=targets,
            )  # fmt: skip
            return AdaLoraModel(encoder, config, "default")
        lora = LoraConfig(
            r=settings.rank, lora_dropout=settings.dropout,
            lora_alpha=settings.alpha,  # type: ignore[arg-type]
            target_modules=targets, use_dora=settings.kind == "dora",
        )  # fmt: skip
        return LoraModel(encoder, lora, "default")

    def named_parameters(self, model: nn.Module) -> Iterator[NamedParameter]:
        for name, parameter in model.named_parameters():
            if "lora_" in name and parameter.requires_grad:
                yield name, parameter

    def extra_loss(self) -> Tensor | None:
        """AdaLoRA's penalty, which peft adds in the forward pass of its model."""
        if not isinstance(self._tuner, AdaLoraModel):
            return None
        penalties = [
            torch.norm(factor @ factor.T - torch.eye(len(factor)))
            for name, parameter in self._tuner.model.named_parameters()
            if "lora_A" in name or "lora_B" in name
            for factor in [parameter if "lora_A" in name else parameter.T]
        ]
        return _ORTHOGONALITY * torch.stack(penalties).mean()

    def before_step(self, step: int, total_steps: int) -> None:
        if step == 1 and isinstance(self._tuner, AdaLoraModel):
            allocator = self._tuner.rankallocator
            allocator.peft_config.tinit = int(_BEGIN * total_steps)
            allocator.peft_config.tfinal = int(_END * total_steps)
            allocator.set_total_step(total_steps)

    def after_step(self, step: int, total_steps: int, optimizer: Optimizer) -> None:
        if isinstance(self._tuner, AdaLoraModel):
            self._tuner.update_and_allocate(step)

    def is_eligible(self, step: int, total_steps: int) -> bool:
        """AdaLoRA has its budget in the last 40 % of the steps, as ``svd_lora``."""
        return self.settings.kind != "adalora" or step > total_steps - int(_END * total_steps)

    def parameter_counts(self, model: nn.Module) -> dict[str, int]:
        """AdaLoRA keeps the triplets whose singular value is not zero."""
        trained = dict(self.named_parameters(model))
        count = sum(parameter.numel() for parameter in trained.values())
        kept = count
        for name, values in trained.items():
            if "lora_E" in name:
                down, up = trained[name.replace("lora_E", "lora_A")], trained[
                    name.replace("lora_E", "lora_B")
                ]  # fmt: skip
                pruned = int((values == 0).sum())
                kept -= pruned * (down.shape[1] + up.shape[0] + 1)
        return {"trainable": count, "kept": kept, "exported": kept}
