"""A trained low-rank update ΔW beside frozen linear layers.

    lora       ΔW = s · B · A            (LoRA, rsLoRA, LoRA+, DoRA, PiSSA's start)
    svd_lora   ΔW = s · B · diag(E) · A  (a rank that adapts per layer, AdaLoRA's idea)
    vera       ΔW = diag(b) · B · diag(d) · A  (A and B random, frozen, shared by all layers)

``build(settings, method, rate)`` makes the part of a run; the arithmetic is one file an idea. A
kind is a file with an ``Update`` and a function that builds the part, and an entry of ``KINDS`` in
``bertft.config.method_components.low_rank``.
"""

from __future__ import annotations

import importlib
import math
from functools import partial
from typing import Any

from bertft.config.method_components.low_rank import KINDS, LowRankConfig
from bertft.methods.low_rank.adalora import (
    AdaLoRAPenalty,
    BudgetSchedule,
    ImportanceTracker,
    RankAllocator,
)
from bertft.methods.low_rank.component import LowRank
from bertft.methods.low_rank.lora import DoRA, LoRA
from bertft.methods.low_rank.svd_lora import SVDLoRA

__all__ = ["LowRank", "build", "build_lora", "build_svd_lora"]


def build(settings: LowRankConfig, method: Any, learning_rate: float | None) -> LowRank:
    """``learning_rate`` overrides ``settings.learning_rate``; B's stays ``b_rate_ratio`` times as
    high.
    """
    targets = settings.targets
    common = {
        "targets": [targets] if isinstance(targets, str) else list(targets),
        "rank": method.rank,
        "dropout": settings.dropout,
        "rate": settings.learning_rate if learning_rate is None else learning_rate,
        "b_rate_ratio": settings.b_rate_ratio,
    }
    module, _, name = KINDS[settings.kind].build.partition(":")
    part: LowRank = getattr(importlib.import_module(module), name)(settings, method, common)
    return part


def build_lora(settings: LowRankConfig, method: Any, common: dict[str, Any]) -> LowRank:
    rank, start = method.rank, settings.start or "zero_b"
    scale = settings.alpha / (math.sqrt(rank) if settings.use_rslora else rank)
    update = DoRA if settings.use_dora else LoRA
    make = partial(update, rank=rank, scale=scale, start=start)
    return LowRank(make_update=make, start=start, start_rank=rank, **common)


def build_svd_lora(settings: LowRankConfig, method: Any, common: dict[str, Any]) -> LowRank:
    start = settings.start or "orthonormal"
    grown = math.ceil(1.5 * method.rank) if settings.adapt else method.rank
    rank = method.initial_rank or grown

    def allocate(modules: dict[str, SVDLoRA]) -> RankAllocator:
        count = len(modules)
        return RankAllocator(
            modules,
            BudgetSchedule(rank * count, method.rank * count, settings.begin, settings.end),
            settings.interval,
            ImportanceTracker(list(modules.values()), settings.beta1, settings.beta2),
        )

    return LowRank(
        make_update=partial(SVDLoRA, rank=rank, scale=settings.alpha / rank, start=start),
        start=start,
        start_rank=rank,
        make_allocator=allocate if settings.adapt else None,
        e_rate_ratio=settings.e_rate_ratio,
        make_penalty=partial(AdaLoRAPenalty, orthogonality=settings.orthogonality, l1=settings.l1),
        **common,
    )
