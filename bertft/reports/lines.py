"""Runs that differ by nothing but their seed, as one line: the metric as mean ± std.

``lines_of`` groups what a sweep or a comparison has read; ``figures`` are a line's cells. The std
is the sample's (n − 1), none for one seed.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bertft.formats.figures import size

__all__ = ["FIGURES", "JobResult", "Line", "figures", "lines_of"]

_SEED = "seed"
FIGURES = ("runs", "parameters", "on disk", "seconds", "peak memory")  # heads of ``figures``


@dataclass(frozen=True)
class JobResult:
    """One run: what was set, and its metrics.json (None: it failed or was cut off)."""

    folder: Path
    settings: dict[str, str]
    error: str | None
    metrics: dict[str, Any] | None

    @property
    def bytes(self) -> int | None:
        """Size on disk of the best checkpoint, without what only training goes on with."""
        if self.metrics is None:
            return None
        step = self.metrics["best"]["step"]
        files = (self.folder / "checkpoints" / f"step-{step}").rglob("*")
        return sum(f.stat().st_size for f in files if f.is_file() and f.stem != "state")


@dataclass(frozen=True)
class Line:
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


def lines_of(
    jobs: Sequence[JobResult],
    lower_is_better: Iterable[str] = ("loss",),
    race: Callable[[Line], Hashable] | None = None,
) -> list[Line]:
    """A line for each combination of the settings in which the jobs differ, the seed aside.

    The best is marked among lines of one metric and one ``race``: the settings of ``data``.
    """
    names = _differing(jobs)
    groups: dict[tuple[str, ...], list[JobResult]] = {}
    for job in jobs:
        key = tuple(job.settings.get(name, "") for name in names)
        groups.setdefault(key, []).append(job)
    lines = [_line(dict(zip(names, key, strict=True)), group) for key, group in groups.items()]
    lower = frozenset(lower_is_better)
    leaders: dict[Hashable, Line] = {}
    for line in lines:
        if line.metric is None or line.mean is None:
            continue
        field = (line.metric, (race or _of_data)(line))
        leader = leaders.get(field)
        sign = -1 if line.metric in lower else 1
        if leader is None or _rank(line, sign) > _rank(leader, sign):
            leaders[field] = line
    best = {id(line) for line in leaders.values()}
    return [replace(line, best=id(line) in best) for line in lines]


def figures(line: Line, metric: str | None) -> list[str]:
    """The value (with its metric's name unless that is ``metric``), then ``FIGURES``."""
    value = "–"
    if line.mean is not None:
        value = f"{line.mean:.4f}" + (f" ± {line.std:.4f}" if line.std is not None else "")
        value = value if line.metric == metric else f"{line.metric} {value}"
    return [
        value,
        str(line.runs),
        "–" if line.parameters is None else f"{line.parameters:,}",
        size(line.bytes),
        "–" if line.seconds is None else f"{line.seconds:.1f}",
        size(line.peak_memory_bytes),
    ]


def _of_data(line: Line) -> Hashable:
    return tuple(v for k, v in line.settings.items() if k.split(".")[0] == "data")


def _rank(line: Line, sign: int) -> tuple[float, int]:
    """Of equal results the one with fewer parameters leads."""
    return sign * (line.mean or 0.0), -(line.parameters or 0)


def _line(settings: dict[str, str], jobs: Sequence[JobResult]) -> Line:
    done = [(job, job.metrics) for job in jobs if job.metrics is not None]
    failed = [job for job in jobs if job.metrics is None]
    values = [metrics["best"]["value"] for _, metrics in done]
    seconds = [metrics["train"]["seconds"] for _, metrics in done]
    memory = [metrics["train"].get("peak_memory_bytes") for _, metrics in done]
    known = [each for each in memory if each is not None]
    sizes = [job.bytes or 0 for job, _ in done]
    return Line(
        settings,
        metric=done[0][1]["best"]["metric"] if done else None,
        mean=statistics.fmean(values) if done else None,
        std=statistics.stdev(values) if len(values) > 1 else None,
        runs=len(done),
        failed=len(failed),
        parameters=round(statistics.fmean(m["parameters"]["method"] for _, m in done))
        if done
        else None,
        bytes=round(statistics.fmean(sizes)) if done else None,
        seconds=statistics.fmean(seconds) if done else None,
        peak_memory_bytes=max(known, default=None),
        error=next((job.error or "cut off" for job in failed), None),
        jobs=tuple(jobs),
    )


def _differing(jobs: Sequence[JobResult]) -> list[str]:
    names = dict.fromkeys(name for job in jobs for name in job.settings if name != _SEED)
    several = [n for n in names if len({job.settings.get(n) for job in jobs}) > 1]
    return several or list(names)
