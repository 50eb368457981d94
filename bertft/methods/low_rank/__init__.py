"""A trained low-rank update ΔW added to frozen linear layers.

    lora       ΔW = s · B · A                  (LoRA, rsLoRA, LoRA+, DoRA, PiSSA's start)
    svd_lora   ΔW = s · B · diag(E) · A        (a rank that adapts per layer, AdaLoRA's idea)
    vera       ΔW = diag(b) · B · diag(d) · A  (A and B random, frozen, shared by all layers)

``build(settings, method, learning_rate)`` returns the component of a run. A kind of update is a
module with an ``Update`` and a function that builds the component, and an entry of ``KINDS`` in
``bertft.config.method_components.low_rank``.
"""

from __future__ import annotations

import importlib
import math
from functools import partial

from bertft.config.method import MethodConfig
from bertft.config.method_components.low_rank import KINDS, LowRankConfig
from bertft.methods.low_rank.adalora import (
    AdaLoRAPenalty,
    BudgetSchedule,
    ImportanceTracker,
    RankAllocator,
)
from bertft.methods.low_rank.component import LowRank, LowRankArguments
from bertft.methods.low_rank.lora import DoRA, LoRA
from bertft.methods.low_rank.svd_lora import SVDLoRA

__all__ = ["LowRank", "build", "build_lora", "build_svd_lora"]


def build(settings: LowRankConfig, method: MethodConfig, learning_rate: float | None) -> LowRank:
    """The component of the configured kind.

    ``learning_rate`` overrides ``settings.learning_rate``; B's rate stays a multiple of it.
    """
    targets = settings.targets
    assert method.rank is not None, "checked by the rules of the configuration"
    common: LowRankArguments = {
        "targets": [targets] if isinstance(targets, str) else list(targets),
        "rank": method.rank,
        "dropout": settings.dropout,
        "learning_rate": settings.learning_rate if learning_rate is None else learning_rate,
        "start_batches": settings.start_batches,
        "b_rate_ratio": settings.b_rate_ratio,
    }
    module, _, name = KINDS[settings.kind].build.partition(":")
    component: LowRank = getattr(importlib.import_module(module), name)(settings, method, common)
    return component


def build_lora(settings: LowRankConfig, method: MethodConfig, common: LowRankArguments) -> LowRank:
    """LoRA or DoRA; ``common``: arguments of every kind."""
    rank, start = common["rank"], settings.start or KINDS["lora"].starts[0]
    scale = _scale(settings, rank)
    update = DoRA if settings.use_dora else LoRA
    make_update = partial(update, rank=rank, scale=scale, start=start)
    return LowRank(make_update=make_update, start=start, start_rank=rank, **common)


def build_svd_lora(
    settings: LowRankConfig, method: MethodConfig, common: LowRankArguments
) -> LowRank:
    """SVD-LoRA, with ranks that adapt if ``settings.adapt``; ``common`` as in ``build_lora``."""
    rank, start = common["rank"], settings.start or KINDS["svd_lora"].starts[0]
    start_rank = method.initial_rank or (math.ceil(1.5 * rank) if settings.adapt else rank)

    def make_allocator(modules: dict[str, SVDLoRA]) -> RankAllocator:
        count = len(modules)
        return RankAllocator(
            modules,
            BudgetSchedule(start_rank * count, rank * count, settings.begin, settings.end),
            settings.interval,
            ImportanceTracker(list(modules.values()), settings.beta1, settings.beta2),
        )

    scale = _scale(settings, start_rank)
    return LowRank(
        make_update=partial(SVDLoRA, rank=start_rank, scale=scale, start=start),
        start=start,
        start_rank=start_rank,
        make_allocator=make_allocator if settings.adapt else None,
        e_rate_ratio=settings.e_rate_ratio,
        make_penalty=partial(AdaLoRAPenalty, orthogonality=settings.orthogonality, l1=settings.l1),
        **common,
    )


def _scale(settings: LowRankConfig, rank: int) -> float:
    """s of updates that start with ``rank``."""
    return settings.alpha / (math.sqrt(rank) if settings.use_rslora else rank)
