"""``method``: a composition of orthogonal components, each a nullable node."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bertft.config.registry import METHODS
from bertft.config.setting import MAX_LEARNING_RATE, MISSING, setting

__all__ = ["MethodConfig"]


@dataclass
class _MethodSettings:
    """``method``: how the base is adapted."""

    name: str = setting(MISSING, "The preset's name, used in the run folder's name.")
    rank: int | None = setting(
        None,
        "Rank a module keeps on average in the end; only with a low-rank part.",
        at_least=1,
    )
    initial_rank: int | None = setting(
        None,
        "svd_lora: rank a module starts with; null: 1.5 × rank, rounded up.",
        at_least=1,
    )
    head_learning_rate: float = setting(
        2e-3,
        "Peak learning rate of the task head and other new modules.",
        above=0,
        at_most=MAX_LEARNING_RATE,
    )
    epochs: float = setting(3.0, "Epochs this method wants where trainer.epochs is null.", above=0)
    warmup: float = setting(
        0.06, "Share of the steps that warm up, where trainer.warmup is null.", at_least=0, below=1
    )


if TYPE_CHECKING:
    MethodConfig = Any
else:
    # One nullable node per registered component.
    MethodConfig = dataclasses.make_dataclass(
        "MethodConfig",
        [
            (
                name,
                cls | None,
                dataclasses.field(
                    default=None, metadata={"meaning": (cls.__doc__ or "").strip(), "part": cls}
                ),
            )
            for name in METHODS.names()
            for cls in (METHODS[name].settings,)
        ],
        bases=(_MethodSettings,),
        namespace={"__doc__": _MethodSettings.__doc__, "__module__": __name__},
    )
