"""``method``: the method components that are combined, each a nullable group of settings."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bertft.config.registry import METHODS
from bertft.config.setting import MAX_LEARNING_RATE, MISSING, setting

__all__ = ["MethodConfig"]


@dataclass
class _MethodSettings:
    """``method``"""

    name: str = setting(MISSING, "Name of the preset; part of the name of the run folder.")
    rank: int | None = setting(
        None,
        "Rank r of ΔW. svd_lora: final average rank per adapted layer. vera: rank of the shared"
        " matrices. Only with method.low_rank.",
        at_least=1,
    )
    initial_rank: int | None = setting(
        None,
        "svd_lora: initial rank of each adapted layer. Null: 1.5 × method.rank, rounded up"
        " (method.rank with method.low_rank.adapt=false).",
        at_least=1,
    )
    head_learning_rate: float = setting(
        2e-3,
        "Peak learning rate of the task head and other newly initialized modules.",
        above=0,
        at_most=MAX_LEARNING_RATE,
    )
    epochs: float = setting(3.0, "Number of epochs if trainer.epochs is null.", above=0)
    warmup: float = setting(
        0.06, "Fraction of warm-up steps if trainer.warmup is null.", at_least=0, below=1
    )


def _component_field(name: str) -> tuple[str, Any, Any]:
    """The nullable field of a method component: its name, type and ``dataclasses.field``."""
    cls = METHODS[name].settings
    help = (cls.__doc__ or "").strip().partition("\n")[0]
    metadata = {"help": help, "component": cls}
    return name, cls | None, dataclasses.field(default=None, metadata=metadata)


if TYPE_CHECKING:
    from bertft.config.method_components.base import TrainableBaseConfig
    from bertft.config.method_components.distill import DistillConfig
    from bertft.config.method_components.ia3 import IA3Config
    from bertft.config.method_components.low_rank import LowRankConfig
    from bertft.config.method_components.prefix import PrefixConfig

    @dataclass
    class MethodConfig(_MethodSettings):
        """The settings of the built-in components, for type checkers."""

        low_rank: LowRankConfig | None = None
        ia3: IA3Config | None = None
        base: TrainableBaseConfig | None = None
        prefix: PrefixConfig | None = None
        distill: DistillConfig | None = None
else:
    MethodConfig = dataclasses.make_dataclass(
        "MethodConfig",
        [_component_field(name) for name in METHODS.names()],
        bases=(_MethodSettings,),
        namespace={"__doc__": _MethodSettings.__doc__, "__module__": __name__},
    )
