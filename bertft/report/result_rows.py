"""Runs that differ by nothing but their seed, as one line: the metric as mean ± std.

``group_results`` groups what a sweep or a comparison has read; ``format_result_cells`` are a line's
cells. The std is the sample's (n − 1), none for one seed.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bertft.utils.numbers import format_bytes

__all__ = ["COST_COLUMNS", "JobResult", "ResultRow", "format_result_cells", "group_results"]

_SEED = "seed"
COST_COLUMNS = (
    "runs",
    "parameters",
    "on disk",
    "seconds",
    "peak memory",
)  # heads of ``format_result_cells``


@dataclass(frozen=True)
class JobResult:
    """One run: what was set, and its metrics.json (None: it failed or was cut off)."""

    folder: Path
    settings: dict[str, str]
    error: str | None
    metrics: dict[str, Any] | None

    @property
    def checkpoint_bytes(self) -> int | None:
        """Size on disk of the best checkpoint, without what only training goes on with."""
        if self.metrics is None:
            return None
        step = self.metrics["best"]["step"]
        files = (self.folder / "checkpoints" / f"step-{step}").rglob("*")
        return sum(f.stat().st_size for f in files if f.is_file() and f.stem != "state")


@dataclass(frozen=True)
class ResultRow:
    """``jobs`` differ by nothing but their seed; what is told of them is told of the finished."""

    settings: dict[str, str]
    metric: str | None
    mean: float | None
    std: float | None
    runs: int
    failed: int
    parameters: int | None
    bytes: int | None
    seconds: float | None
    peak_memory_bytes: int | None
    error: str | None
    best: bool = False
    jobs: tuple[JobResult, ...] = ()


def group_results(
    jobs: Sequence[JobResult],
    lower_is_better: Iterable[str] = ("loss",),
    comparable_key: Callable[[ResultRow], Hashable] | None = None,
) -> list[ResultRow]:
    """A line for each combination of the settings in which the jobs differ, the seed aside.

    The best is marked among lines of one metric and one ``comparable_key``: the settings of
    ``data``.
    """
    names = _differing(jobs)
    groups: dict[tuple[str, ...], list[JobResult]] = {}
    for job in jobs:
        key = tuple(job.settings.get(name, "") for name in names)
        groups.setdefault(key, []).append(job)
    rows = [_result_row(dict(zip(names, key, strict=True)), group) for key, group in groups.items()]
    lower_is_better_metrics = frozenset(lower_is_better)
    leaders: dict[Hashable, ResultRow] = {}
    for row in rows:
        if row.metric is None or row.mean is None:
            continue
        comparison = (row.metric, (comparable_key or _data_settings)(row))
        leader = leaders.get(comparison)
        sign = -1 if row.metric in lower_is_better_metrics else 1
        if leader is None or _rank(row, sign) > _rank(leader, sign):
            leaders[comparison] = row
    best = {id(line) for line in leaders.values()}
    return [replace(line, best=id(line) in best) for line in rows]


def format_result_cells(row: ResultRow, metric: str | None) -> list[str]:
    """The value (with its metric's name unless that is ``metric``), then ``COST_COLUMNS``."""
    value = "–"
    if row.mean is not None:
        value = f"{row.mean:.4f}" + (f" ± {row.std:.4f}" if row.std is not None else "")
        value = value if row.metric == metric else f"{row.metric} {value}"
    return [
        value,
        str(row.runs),
        "–" if row.parameters is None else f"{row.parameters:,}",
        format_bytes(row.bytes),
        "–" if row.seconds is None else f"{row.seconds:.1f}",
        format_bytes(row.peak_memory_bytes),
    ]


def _data_settings(row: ResultRow) -> Hashable:
    return tuple(v for k, v in row.settings.items() if k.split(".")[0] == "data")


def _rank(row: ResultRow, sign: int) -> tuple[float, int]:
    """Of equal results the one with fewer parameters leads."""
    return sign * (row.mean or 0.0), -(row.parameters or 0)


def _result_row(settings: dict[str, str], jobs: Sequence[JobResult]) -> ResultRow:
    finished = [(job, job.metrics) for job in jobs if job.metrics is not None]
    failed = [job for job in jobs if job.metrics is None]
    values = [metrics["best"]["value"] for _, metrics in finished]
    seconds = [metrics["train"]["seconds"] for _, metrics in finished]
    memory = [metrics["train"].get("peak_memory_bytes") for _, metrics in finished]
    known = [each for each in memory if each is not None]
    sizes = [job.checkpoint_bytes or 0 for job, _ in finished]
    return ResultRow(
        settings,
        metric=finished[0][1]["best"]["metric"] if finished else None,
        mean=statistics.fmean(values) if finished else None,
        std=statistics.stdev(values) if len(values) > 1 else None,
        runs=len(finished),
        failed=len(failed),
        parameters=round(statistics.fmean(m["parameters"]["method"] for _, m in finished))
        if finished
        else None,
        bytes=round(statistics.fmean(sizes)) if finished else None,
        seconds=statistics.fmean(seconds) if finished else None,
        peak_memory_bytes=max(known, default=None),
        error=next((job.error or "cut off" for job in failed), None),
        jobs=tuple(jobs),
    )


def _differing(jobs: Sequence[JobResult]) -> list[str]:
    names = dict.fromkeys(name for job in jobs for name in job.settings if name != _SEED)
    several = [n for n in names if len({job.settings.get(n) for job in jobs}) > 1]
    return several or list(names)
