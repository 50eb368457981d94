"""Group runs that differ only by their seed into one row: the metric as mean ± std.

A sweep and a comparison use the same rows. The std is the sample standard deviation (n − 1).
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bertft.runs.metrics_json import RunMetrics
from bertft.utils.numbers import format_bytes

__all__ = [
    "COST_COLUMNS",
    "PARAMETERS_NOTE",
    "JobResult",
    "ResultRow",
    "differing_settings",
    "format_mean",
    "format_result_cells",
    "group_results",
    "recorded_lower_is_better",
]

_SEED = "seed"
# The headings of ``format_result_cells`` after the metric.
COST_COLUMNS = ("runs", "method parameters", "checkpoint", "seconds", "peak memory")
PARAMETERS_NOTE = "Method parameters: trained parameters without the task head."


@dataclass(frozen=True)
class JobResult:
    """One run: its settings and its metrics.json (None if it failed or was interrupted)."""

    folder: Path
    settings: dict[str, str]
    error: str | None
    metrics: RunMetrics | None

    @property
    def checkpoint_bytes(self) -> int | None:
        """Size of the best checkpoint on disk, without the training state."""
        if self.metrics is None:
            return None
        step = self.metrics["best"]["step"]
        files = (self.folder / "checkpoints" / f"step-{step}").rglob("*")
        return sum(f.stat().st_size for f in files if f.is_file() and f.stem != "state")


@dataclass(frozen=True)
class ResultRow:
    """``jobs`` that differ only by their seed. All values are those of finished jobs.

    The fields are the columns of summary.csv.

    Attributes:
        settings: The settings that differ between rows.
        metric: The selection metric; None if no job is finished.
        mean, std: Mean and standard deviation of the metric; ``std`` is None for one job.
        runs, failed: Numbers of finished and of failed jobs.
        parameters: Mean number of parameters that the method trains.
        bytes: Mean size of the best checkpoint.
        seconds: Mean training time.
        peak_memory_bytes: Maximum over the jobs.
        error: The error of the first failed job.
        best: Whether this row has the best mean among comparable rows.
        tie: Whether the difference to the best row is within the noise; None if unknown.
    """

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
    tie: bool | None = None
    jobs: tuple[JobResult, ...] = ()


def group_results(
    jobs: Sequence[JobResult],
    lower_is_better: Iterable[str] = ("loss",),
    comparable_key: Callable[[ResultRow], Hashable] | None = None,
) -> list[ResultRow]:
    """One row per combination of the settings that differ between the jobs, without the seed.

    Jobs that differ only by their seed are one row without settings.

    Args:
        jobs: The jobs.
        lower_is_better: Metrics whose best value is the lowest.
        comparable_key: Rows with the same metric and key are compared to find the best one. The
            default key is the settings of ``data``.
    """
    settings = [{k: v for k, v in job.settings.items() if k != _SEED} for job in jobs]
    names = differing_settings(settings)
    groups: dict[tuple[str, ...], list[JobResult]] = {}
    for job in jobs:
        key = tuple(job.settings.get(name, "") for name in names)
        groups.setdefault(key, []).append(job)
    rows = [_result_row(dict(zip(names, key, strict=True)), group) for key, group in groups.items()]
    lower_is_better_metrics = frozenset(lower_is_better) | recorded_lower_is_better(
        job.metrics for job in jobs if job.metrics is not None
    )
    leaders: dict[Hashable, ResultRow] = {}
    for row in rows:
        if row.metric is None or row.mean is None:
            continue
        comparison = (row.metric, (comparable_key or _data_settings)(row))
        leader = leaders.get(comparison)
        sign = -1 if row.metric in lower_is_better_metrics else 1
        if leader is None or _rank(row, sign) > _rank(leader, sign):
            leaders[comparison] = row
    best = {id(row) for row in leaders.values()}
    return [replace(row, best=id(row) in best) for row in rows]


def recorded_lower_is_better(results: Iterable[RunMetrics]) -> frozenset[str]:
    """Metrics whose best value is the lowest, as metrics.json records it.

    It does so for Python functions (data.metric), whose direction does not follow from their names.
    """
    return frozenset(
        metrics["best"]["metric"]
        for metrics in results
        if metrics["best"].get("higher_is_better") is False
    )


def differing_settings(
    settings: Sequence[Mapping[str, str]], always: Collection[str] = ()
) -> list[str]:
    """Names of the settings that are not equal in all of ``settings``, and those in ``always``."""
    names = dict.fromkeys(name for run_settings in settings for name in run_settings)
    return [
        name
        for name in names
        if name in always or len({run_settings.get(name) for run_settings in settings}) > 1
    ]


def format_mean(row: ResultRow) -> str:
    """``0.9123 ± 0.0041``; a dash if no job is finished."""
    if row.mean is None:
        return "–"
    return f"{row.mean:.4f}" + (f" ± {row.std:.4f}" if row.std is not None else "")


def format_result_cells(row: ResultRow, metric: str | None) -> list[str]:
    """Mean and std (with the metric's name if it is not ``metric``), then ``COST_COLUMNS``."""
    has_other_metric = row.mean is not None and row.metric != metric
    return [
        f"{row.metric} {format_mean(row)}" if has_other_metric else format_mean(row),
        str(row.runs),
        "–" if row.parameters is None else f"{row.parameters:,}",
        format_bytes(row.bytes),
        "–" if row.seconds is None else f"{row.seconds:.1f}",
        format_bytes(row.peak_memory_bytes),
    ]


def _data_settings(row: ResultRow) -> Hashable:
    return tuple(value for name, value in row.settings.items() if name.split(".")[0] == "data")


def _rank(row: ResultRow, sign: int) -> tuple[float, int]:
    """Sort key: of equal means the row with fewer parameters is better."""
    return sign * (row.mean or 0.0), -(row.parameters or 0)


def _result_row(settings: dict[str, str], jobs: Sequence[JobResult]) -> ResultRow:
    finished = [(job, job.metrics) for job in jobs if job.metrics is not None]
    failed = [job for job in jobs if job.metrics is None]
    scores = [metrics["best"]["value"] for _, metrics in finished]
    values = [score for score in scores if score is not None]  # None: no validation rows
    seconds = [metrics["train"]["seconds"] for _, metrics in finished]
    memory = [metrics["train"].get("peak_memory_bytes") for _, metrics in finished]
    sizes = [job.checkpoint_bytes or 0 for job, _ in finished]
    return ResultRow(
        settings,
        metric=finished[0][1]["best"]["metric"] if finished else None,
        mean=statistics.fmean(values) if values else None,
        std=statistics.stdev(values) if len(values) > 1 else None,
        runs=len(finished),
        failed=len(failed),
        parameters=round(statistics.fmean(m["parameters"]["method"] for _, m in finished))
        if finished
        else None,
        bytes=round(statistics.fmean(sizes)) if finished else None,
        seconds=statistics.fmean(seconds) if finished else None,
        peak_memory_bytes=max((peak for peak in memory if peak is not None), default=None),
        error=next((job.error or "interrupted" for job in failed), None),
        jobs=tuple(jobs),
    )
