"""The low-rank update ΔW beside frozen linear layers: the LoRA family and SVD-LoRA."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bertft.config.choices import STARTS
from bertft.config.setting import LARGEST_RATE, setting

__all__ = ["Settings"]


@dataclass
class Settings:
    """``method.low_rank``; the rank itself is ``method.rank``."""

    kind: str = setting(
        "lora",
        "lora: ΔW = s·B·A. svd_lora: ΔW = s·B·diag(E)·A with a rank that adapts per module.",
        choices=tuple(STARTS),
    )
    targets: Any = setting(
        ["query", "value"],
        "Linear layers that get ΔW: roles (query, key, value, attention_output, ffn_in, ffn_out), "
        "all_linear, or names of modules.",
    )
    alpha: float = setting(16.0, "Numerator of the scale s = alpha / rank.", above=0)
    dropout: float = setting(0.05, "Dropout on the input of ΔW.", at_least=0, below=1)
    learning_rate: float = setting(
        2e-3, "Peak learning rate of A and B.", above=0, at_most=LARGEST_RATE
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
        choices=[start for starts in STARTS.values() for start in starts],
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
