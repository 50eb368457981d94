"""``method.low_rank``: low-rank updates ΔW of frozen linear layers (LoRA, SVD-LoRA, VeRA)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bertft.config.setting import MAX_LEARNING_RATE, setting

__all__ = ["DATA_STARTS", "KINDS", "Kind", "LowRankConfig", "default_rate"]

_TARGETS_OF_ALL_LINEAR = 6  # per encoder layer of BERT
DATA_STARTS = ("activations", "gradient")  # computed from the first batches


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
        settings=("alpha", "b_rate_ratio", "start", "start_batches", "use_rslora", "use_dora"),
        starts=("zero_b", "principal", *DATA_STARTS),
    ),
    "svd_lora": Kind(
        build="bertft.methods.low_rank:build_svd_lora",
        settings=(
            "alpha",
            "b_rate_ratio",
            "start",
            "start_batches",
            "use_rslora",
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
        starts=("orthonormal", "gaussian", *DATA_STARTS),
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
        "Numerator of the scale s of ΔW: s = alpha / r, or alpha / √r with use_rslora; r is "
        "method.rank (lora) or method.initial_rank (svd_lora). vera does not support it.",
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
        "svd_lora: learning rate of E divided by the learning rate of A and B. method=svd_lora "
        "sets it to 1; method.low_rank.start=orthonormal needs about 20.",
        above=0,
    )
    use_rslora: bool = setting(
        False,
        "rsLoRA: use the scale s = alpha / √r. With method.low_rank.kind=lora or svd_lora.",
        former="rank_stabilised",
    )
    use_dora: bool = setting(
        False,
        "DoRA: train the norm of each weight row separately. Only with method.low_rank.kind=lora.",
        former="magnitude",
    )
    start: str | None = setting(
        None,
        "Initialization of A and B. activations, gradient: the main directions of the inputs of a "
        "layer (EVA) or of the gradient of its weight. lora also supports zero_b and principal "
        "(PiSSA), svd_lora gaussian and orthonormal. Null: zero_b (lora), orthonormal (svd_lora). "
        "method=svd_lora sets it to activations.",
        choices=list(dict.fromkeys(start for kind in KINDS.values() for start in kind.starts)),
    )
    start_batches: int = setting(
        8,
        "Only with method.low_rank.start=activations or gradient: number of batches, in the order "
        "of training, from which the directions are computed.",
        at_least=1,
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
        "svd_lora: weight γ of the penalty for rows and columns that are not orthonormal, the mean "
        "of the Frobenius norms ‖A·Aᵀ − I‖ and ‖Bᵀ·B − I‖ (not squared) over all layers.",
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


def default_rate(targets: Any, undivided: int = 2, rate: float = 2e-3) -> float:
    """The learning rate of low-rank updates: ``rate`` · min(1, ``undivided`` / n) for n targets.

    all_linear counts as the six layers that an encoder layer of BERT has. ``undivided``: 2 for
    lora, 3 for svd_lora.

    The output of an encoder layer changes more per step with more updates in it: with all_linear
    and 2e-3, some runs of lora collapse (see docs/methods/lora.md).
    """
    is_list = hasattr(targets, "__len__") and not isinstance(targets, str)
    names = list(targets) if is_list else [targets]
    count = _TARGETS_OF_ALL_LINEAR if "all_linear" in names else len(names)
    rate *= min(1.0, undivided / max(1, count))
    return float(f"{rate:.4g}")  # the resolved configuration shows it
