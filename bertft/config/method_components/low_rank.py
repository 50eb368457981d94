"""The low-rank update ΔW beside frozen linear layers: the LoRA family and SVD-LoRA."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bertft.config.setting import MAX_LEARNING_RATE, setting

__all__ = ["KINDS", "Kind", "LowRankConfig"]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of low-rank update.

    build: ``"module:function"``, (settings, method, common) → the LowRank component.
    settings: what it reads besides the settings that every kind reads.
    starts: values of ``start``; the first is the default.
    adapts: whether its rank adapts while it trains, from ``method.initial_rank``.
    """

    build: str
    settings: tuple[str, ...]
    starts: tuple[str, ...] = ()
    adapts: bool = False


KINDS = {
    "lora": Kind(
        build="bertft.methods.low_rank:build_lora",
        settings=("alpha", "b_rate_ratio", "start", "use_rslora", "use_dora"),
        starts=("zero_b", "principal"),
    ),
    "svd_lora": Kind(
        build="bertft.methods.low_rank:build_svd_lora",
        settings=(
            "alpha",
            "b_rate_ratio",
            "start",
            "e_rate_ratio",
            "adapt",
            "begin",
            "end",
            "interval",
            "beta1",
            "beta2",
            "orthogonality",
            "l1",
        ),
        starts=("orthonormal", "gaussian"),
        adapts=True,
    ),
    "vera": Kind(
        build="bertft.methods.low_rank.vera:build", settings=("d_initial", "projection_seed")
    ),
}


@dataclass
class LowRankConfig:
    """``method.low_rank``; the rank itself is ``method.rank``."""

    kind: str = setting(
        "lora",
        "lora: ΔW = s·B·A. svd_lora: ΔW = s·B·diag(E)·A with a rank that adapts per module. "
        "vera: ΔW = diag(b)·B·diag(d)·A with shared random A and B, where b and d train.",
        choices=tuple(KINDS),
    )
    targets: Any = setting(
        ["query", "value"],
        "Linear layers that get ΔW: roles (query, key, value, attention_output, ffn_in, ffn_out), "
        "all_linear, or names of modules.",
    )
    alpha: float = setting(16.0, "Numerator of the scale s = alpha / rank.", above=0)
    dropout: float = setting(0.05, "Dropout on the input of ΔW.", at_least=0, below=1)
    learning_rate: float = setting(
        2e-3, "Peak learning rate of A and B.", above=0, at_most=MAX_LEARNING_RATE
    )
    b_rate_ratio: float = setting(
        1.0, "Learning rate of B over that of A (LoRA+ uses 4 to 16).", above=0
    )
    e_rate_ratio: float = setting(
        20.0,
        "svd_lora: learning rate of E over that of A and B. B moves √out entries of a triplet at "
        "once, E one: at equal rates ΔW would grow that much more slowly than LoRA's.",
        above=0,
    )
    use_rslora: bool = setting(
        False, "rsLoRA: s = alpha / √rank. kind=lora only.", former="rank_stabilised"
    )
    use_dora: bool = setting(
        False, "DoRA: train the norm of each row separately. kind=lora only.", former="magnitude"
    )
    start: str | None = setting(
        None,
        "Start of A and B; null: zero_b for lora, orthonormal for svd_lora. "
        "lora: zero_b, principal (PiSSA). svd_lora: orthonormal, gaussian.",
        choices=[start for kind in KINDS.values() for start in kind.starts],
    )
    adapt: bool = setting(True, "svd_lora: prune to the budget; false keeps every triplet.")
    begin: float = setting(
        0.1, "svd_lora: share of the steps before pruning starts.", at_least=0, below=1
    )
    end: float = setting(
        0.4, "svd_lora: share of the steps, at the end, with a frozen budget.", above=0, below=1
    )
    interval: int = setting(10, "svd_lora: steps between two changes of the mask.", at_least=1)
    beta1: float = setting(0.85, "svd_lora: smoothing of the importance.", at_least=0, below=1)
    beta2: float = setting(
        0.85, "svd_lora: smoothing of the importance's uncertainty.", at_least=0, below=1
    )
    orthogonality: float = setting(
        0.1, "svd_lora: weight γ of the penalty ‖A·Aᵀ − I‖ + ‖Bᵀ·B − I‖.", at_least=0
    )
    l1: float = setting(0.0, "svd_lora: weight of ‖E‖₁, the origin's sparsifier.", at_least=0)
    d_initial: float = setting(
        0.1, "vera: start of each entry of d; b starts at 0.", above=0, at_most=100
    )
    projection_seed: int = setting(
        0, "vera: seed of the random matrices A and B that all layers share.", at_least=0
    )
