"""``method.low_rank``: low-rank updates ΔW of frozen linear layers (LoRA, SVD-LoRA, VeRA)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bertft.config.setting import MAX_LEARNING_RATE, setting

__all__ = ["KINDS", "Kind", "LowRankConfig", "default_rate"]

_RATE = 2e-3  # for updates of query and value
_TARGETS_OF_ALL_LINEAR = 6  # per encoder layer of BERT


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of low-rank update.

    Args:
        build: ``"module:function"``, (settings, method, common) → the LowRank component.
        settings: the settings that this kind reads and some other kinds do not.
        starts: valid values of ``start``; the first is the default.
        adapts: whether the rank is adapted during training, starting from
            ``method.initial_rank``.
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
    """Low-rank updates ΔW of frozen linear layers; the rank is method.rank."""

    kind: str = setting(
        "lora",
        "lora: ΔW = s·B·A. svd_lora: ΔW = s·B·diag(E)·A with a rank that is adapted per layer. "
        "vera: ΔW = diag(b)·B·diag(d)·A with shared random A and B; only b and d are trained.",
        choices=tuple(KINDS),
    )
    targets: Any = setting(
        ["query", "value"],
        "Linear layers to update: roles (query, key, value, attention_output, ffn_in, ffn_out), "
        "all_linear, or module names.",
    )
    alpha: float = setting(
        16.0,
        "Numerator of the scale s of ΔW. lora: s = alpha / method.rank. svd_lora: s = alpha / "
        "method.initial_rank. vera does not support it.",
        above=0,
    )
    dropout: float = setting(0.05, "Dropout probability of the input of ΔW.", at_least=0, below=1)
    learning_rate: float = setting(
        2e-3,
        "Peak learning rate of A and B (vera: of b and d).",
        above=0,
        at_most=MAX_LEARNING_RATE,
    )
    b_rate_ratio: float = setting(
        1.0,
        "lora, svd_lora: learning rate of B divided by the learning rate of A. LoRA+ uses 4 to 16.",
        above=0,
    )
    e_rate_ratio: float = setting(
        20.0,
        "svd_lora: learning rate of E divided by the learning rate of A and B. One AdamW "
        "step changes the norm of a column of B by about √out_features times as much as an entry "
        "of E, so E needs a larger rate.",
        above=0,
    )
    use_rslora: bool = setting(
        False,
        "rsLoRA: use the scale s = alpha / √rank. Only with method.low_rank.kind=lora.",
        former="rank_stabilised",
    )
    use_dora: bool = setting(
        False,
        "DoRA: train the norm of each weight row separately. Only with method.low_rank.kind=lora.",
        former="magnitude",
    )
    start: str | None = setting(
        None,
        "Initialization of A and B. lora: zero_b or principal (PiSSA). svd_lora: orthonormal or "
        "gaussian. Null: the first of these.",
        choices=[start for kind in KINDS.values() for start in kind.starts],
    )
    adapt: bool = setting(
        True,
        "svd_lora: prune triplets (a column of B, an entry of E and a row of A) until method.rank"
        " per layer remain on average. false: keep all triplets.",
    )
    begin: float = setting(
        0.1, "svd_lora: fraction of the steps before pruning starts.", at_least=0, below=1
    )
    end: float = setting(
        0.4,
        "svd_lora: fraction of the steps at the end during which the ranks stay fixed.",
        above=0,
        below=1,
    )
    interval: int = setting(10, "svd_lora: steps between updates of the pruning mask.", at_least=1)
    beta1: float = setting(
        0.85,
        "svd_lora: smoothing factor of the importance scores.",
        at_least=0,
        below=1,
    )
    beta2: float = setting(
        0.85,
        "svd_lora: smoothing factor of the uncertainty of the importance scores.",
        at_least=0,
        below=1,
    )
    orthogonality: float = setting(
        0.1,
        "svd_lora: weight γ of the penalty that keeps A and B nearly orthonormal, the mean of the "
        "Frobenius norms ‖A·Aᵀ − I‖ and ‖Bᵀ·B − I‖ (not squared) over all layers.",
        at_least=0,
    )
    l1: float = setting(
        0.0,
        "svd_lora: weight of the sparsity penalty ‖E‖₁, the sum of |E| over all layers.",
        at_least=0,
    )
    d_initial: float = setting(
        0.1, "vera: initial value of the entries of d. b starts at 0.", above=0, at_most=100
    )
    projection_seed: int = setting(
        0, "vera: seed of the random matrices A and B that all layers share.", at_least=0
    )


def default_rate(targets: Any, undivided: int = 2) -> float:
    """The learning rate of low-rank updates: 2e-3 · min(1, ``undivided`` / n) for n targets.

    all_linear counts as the six layers that an encoder layer of BERT has. ``undivided``: 2 for
    lora, 3 for svd_lora.

    The output of an encoder layer changes more per step with more updates in it: with all_linear
    and 2e-3, some runs collapse (see docs/methods/lora.md).
    """
    is_list = hasattr(targets, "__len__") and not isinstance(targets, str)
    names = list(targets) if is_list else [targets]
    count = _TARGETS_OF_ALL_LINEAR if "all_linear" in names else len(names)
    rate = _RATE * min(1.0, undivided / max(1, count))
    return float(f"{rate:.4g}")  # the resolved configuration shows it
