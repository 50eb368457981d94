"""The descriptions that the entry points name. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bertft.config.component_specs import (
    MethodSpec,
    MetricSpec,
    OptimizerSpec,
    ReaderSpec,
    TaskSpec,
)
from bertft.config.setting import setting
from bertft.utils.messages import Problem

__all__ = ["MAX_ERROR", "REVIEWS", "SCALING", "SIGN_MOMENTUM", "STARS"]


@dataclass
class ScalingSettings:
    """A trained factor for each output of linear layers."""

    targets: Any = setting(["key", "value", "ffn_in"], "Linear layers whose outputs are scaled.")
    learning_rate: float = setting(1e-2, "Peak learning rate of the factors.", above=0)


def _targets(get: Any) -> Iterator[Problem]:
    if get("method.scaling.targets") == []:
        yield Problem("method.scaling.targets", "is empty", "As in [key,value]")


@dataclass
class SignMomentumSettings:
    """``trainer.optimizer_settings`` of sign_momentum."""

    momentum: float = setting(0.9, "Share of the momentum that is kept.", at_least=0, below=1)


SCALING = MethodSpec(
    settings=ScalingSettings,
    build="bertft_example.scaling:build",
    rules="bertft_example.components:RULES",
    peft_types={"SCALING": "bertft_example.scaling:from_peft"},
)
RULES = (_targets,)
STARS = TaskSpec(
    task_class="bertft_example.stars:Stars",
    row_schema="bertft_example.stars:StarRows",
    label="number",
    supports_class_names=False,
    model_card_code="bertft_example.stars:code",
)
REVIEWS = ReaderSpec(extensions=(".reviews",), read="bertft_example.reader:read_reviews")
MAX_ERROR = MetricSpec(
    higher_is_better=False,
    tasks=("regression", "stars"),
    compute="bertft_example.stars:max_error",
)
SIGN_MOMENTUM = OptimizerSpec(
    build="bertft_example.optimizer:build",
    settings=SignMomentumSettings,
    state_tensors=("momentum",),
)
