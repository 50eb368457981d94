"""Compares runs: one row per method, best first, with the difference to a baseline row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean

import numpy as np

from bertft.config.task_facts import LOWER_IS_BETTER
from bertft.data.rows import format_accounting
from bertft.errors import BertftError, UsageError
from bertft.report.compare.bootstrap import Difference, bootstrap_metrics, paired_difference
from bertft.report.compare.read import FinishedRun
from bertft.report.compare.row_statistics import RowStatistics
from bertft.report.result_rows import ResultRow, group_results, recorded_lower_is_better
from bertft.utils.messages import suggest
from bertft.utils.status import show_status

__all__ = ["ComparedRow", "Comparison", "compare_runs", "name_rows"]

# Settings that follow the method in a row's name if they differ, in this order.
_NAME_SETTINGS = ("method.rank", "model.name", "data.name")
_DIFFERENT_ROWS = "the two were evaluated on different validation rows"
_ALONE = "no other run was evaluated on its validation rows"
_UNSET = ("", "null")
_RESCORE_TOLERANCE = 1e-6  # relative, of a metric that is computed again on the same rows


@dataclass(frozen=True)
class _BootstrapValues:
    """``metric`` [runs, 1 + draws] on ``used_rows``: numbers of validation rows as bytes."""

    used_rows: bytes
    metric: np.ndarray


@dataclass(frozen=True)
class ComparedRow:
    """A row of a comparison.

    Attributes:
        name: Unique name.
        result: Metric and costs of the runs.
        kept_parameters: Parameters of the method after pruning.
        validation_fingerprint: Identifies the validation rows.
        baseline: Name of the row that ``difference`` refers to.
        difference: Difference of the metric to the baseline.
        reason: Why there is no difference.
    """

    name: str
    result: ResultRow
    kept_parameters: int
    validation_fingerprint: str
    baseline: str | None = None
    difference: Difference | None = None
    reason: str = ""

    @property
    def is_tie(self) -> bool:
        """Whether the interval of the difference contains 0."""
        difference = self.difference
        return difference is not None and difference.low <= 0 <= difference.high


@dataclass(frozen=True)
class Comparison:
    """The result of ``compare_runs``.

    Attributes:
        rows: Best first.
        draws: Resamples of the bootstrap.
        notes: Sentences on the rows, on metrics that changed, and on the hardware.
        statistics: Name of a row → the statistics of the validation rows, per run.
    """

    metric: str
    lower_is_better: bool
    rows: list[ComparedRow]
    draws: int
    notes: list[str]
    statistics: Mapping[str, Sequence[RowStatistics]] = field(default_factory=dict)


def compare_runs(
    runs: Sequence[FinishedRun],
    against: str | None,
    draws: int,
    load_statistics: Callable[[FinishedRun], RowStatistics],
) -> Comparison:
    """Compare finished runs by their selection metric.

    Args:
        runs: Runs that differ only by their seed become one row.
        against: The baseline, as a run folder or a row's name. None: the best row with the same
            validation rows.
        draws: Resamples of the bootstrap; 0 computes no differences.
        load_statistics: Returns the row statistics of a run. The text of a BertftError that it
            raises becomes the reason why there is no difference.

    Raises:
        UsageError: If ``against`` is neither a run nor a name.
    """
    runs_by_folder = {run.result.folder: run for run in runs}
    fingerprints = {run.result.folder: run.validation_fingerprint for run in runs}
    results = group_results(
        [run.result for run in runs],
        LOWER_IS_BETTER,
        lambda result: fingerprints[result.jobs[0].folder],
    )
    metric = results[0].metric or ""
    lower_is_better = metric in LOWER_IS_BETTER | recorded_lower_is_better(
        run.result.metrics for run in runs if run.result.metrics is not None
    )
    sign = -1 if lower_is_better else 1
    results.sort(key=lambda result: (-sign * (result.mean or 0.0), result.parameters or 0))
    rows = [
        ComparedRow(
            name, result, _mean_kept_parameters(result), fingerprints[result.jobs[0].folder]
        )
        for name, result in zip(name_rows(results), results, strict=True)
    ]
    baseline = _find_baseline(rows, against)
    values, statistics, notes = _bootstrap_values(rows, runs_by_folder, draws, load_statistics)
    rows = [_with_difference(row, baseline or _best_row(rows, row), values, rows) for row in rows]
    notes += [*_accounting_notes(runs), *_hardware_notes(runs)]
    return Comparison(metric, lower_is_better, rows, draws, notes, statistics)


def name_rows(results: Sequence[ResultRow]) -> list[str]:
    """A unique name for each row: the method, then what distinguishes it from other rows."""
    names = [_short_name(result) for result in results]
    for name in [name for name, count in Counter(names).items() if count > 1]:
        indices = [index for index, other in enumerate(names) if other == name]
        settings = [results[index].settings for index in indices]
        keys = [
            key
            for key in settings[0]
            if key not in ("method.name", *_NAME_SETTINGS)
            and len({row_settings[key] for row_settings in settings}) > 1
        ]
        for index, row_settings in zip(indices, settings, strict=True):
            # epochs=null says nothing next to max_steps=100.
            set_keys = [key for key in keys if row_settings[key] not in _UNSET] or keys
            words = [f"{key.rpartition('.')[2]}={row_settings[key]}" for key in set_keys]
            names[index] = " ".join([name, *words])
    counts = Counter(names)  # not unique if settings in two groups have the same last name
    return [
        name if counts[name] == 1 else f"{name} #{number}" for number, name in enumerate(names, 1)
    ]


def _short_name(result: ResultRow) -> str:
    settings = result.jobs[0].settings  # includes settings that are equal in all rows
    words = [settings["method.name"]]
    for key in _NAME_SETTINGS:
        value = settings.get(key, "")
        if value not in _UNSET:
            words.append(f"r{value}" if key == "method.rank" else value)
    return " ".join(words)


def _mean_kept_parameters(result: ResultRow) -> int:
    return round(fmean(job.metrics["parameters"]["kept"] for job in result.jobs if job.metrics))


def _find_baseline(rows: Sequence[ComparedRow], against: str | None) -> ComparedRow | None:
    if against is None:
        return None
    folder = Path(against).expanduser().resolve()
    for row in rows:
        if row.name == against or folder in [job.folder.resolve() for job in row.result.jobs]:
            return row
    names = [row.name for row in rows]
    raise UsageError(
        f"{against} is not among the compared runs (names: {', '.join(names)})",
        where="against",
        hint=suggest(against, names),
    )


def _with_same_rows(rows: Sequence[ComparedRow], row: ComparedRow) -> list[ComparedRow]:
    """All of ``rows`` with the same validation rows as ``row``, including ``row``."""
    return [other for other in rows if other.validation_fingerprint == row.validation_fingerprint]


def _best_row(rows: Sequence[ComparedRow], row: ComparedRow) -> ComparedRow:
    """The best row with the same validation rows as ``row``."""
    return next(other for other in _with_same_rows(rows, row) if other.result.best)


def _bootstrap_values(
    rows: Sequence[ComparedRow],
    runs_by_folder: Mapping[Path, FinishedRun],
    draws: int,
    load_statistics: Callable[[FinishedRun], RowStatistics],
) -> tuple[dict[str, _BootstrapValues | str], dict[str, list[RowStatistics]], list[str]]:
    """Row name → values of its runs, or why it has none; row name → statistics; and notes."""
    values: dict[str, _BootstrapValues | str] = {}
    notes: list[str] = []
    # Rows are comparable if they have the same validation rows and use the same ones of them.
    groups: dict[tuple[str, bytes], list[tuple[str, list[RowStatistics]]]] = {}
    for row in rows if draws else ():
        if len(_with_same_rows(rows, row)) < 2:
            continue  # nothing to compare with
        try:
            statistics = [load_statistics(runs_by_folder[job.folder]) for job in row.result.jobs]
        except BertftError as error:
            values[row.name] = str(error)
            continue
        used_rows = {run_statistics.rows.tobytes() for run_statistics in statistics}
        if len(used_rows) > 1:
            values[row.name] = "its runs were evaluated on different validation rows"
            continue
        notes += _rescore_notes(row, statistics, runs_by_folder)
        key = (row.validation_fingerprint, used_rows.pop())
        groups.setdefault(key, []).append((row.name, statistics))
    for (_, used), members in groups.items():
        metrics = [
            run_statistics.metric for _, statistics in members for run_statistics in statistics
        ]
        row_count = len(members[0][1][0].rows)
        show_status(f"resampling the {row_count:,} validation rows {draws:,} times")
        ends = np.cumsum([len(statistics) for _, statistics in members])
        values_by_row = np.split(bootstrap_metrics(metrics, row_count, draws), ends[:-1])
        for (name, _), row_values in zip(members, values_by_row, strict=True):
            values[name] = _BootstrapValues(used, row_values)
    members_by_name = {name: group for members in groups.values() for name, group in members}
    return values, members_by_name, notes


def _rescore_notes(
    row: ComparedRow,
    statistics: Sequence[RowStatistics],
    runs_by_folder: Mapping[Path, FinishedRun],
) -> list[str]:
    """Runs whose best checkpoint now gives another metric than training recorded."""
    notes = []
    for job, job_statistics in zip(row.result.jobs, statistics, strict=True):
        assert job.metrics is not None and job.metrics["best"]["value"] is not None
        recorded_count = runs_by_folder[job.folder].validation_split["rows"]
        current_count = len(job_statistics.rows)
        if current_count != recorded_count:
            notes.append(
                f"{job.folder}: {recorded_count:,} validation rows in training, {current_count:,}"
                " now"
            )
        recorded = job.metrics["best"]["value"]
        current = float(job_statistics.metric(np.ones((1, current_count)))[0])
        if not abs(current - recorded) <= _RESCORE_TOLERANCE * max(1.0, abs(recorded)):
            notes.append(
                f"{job.folder}: the metric was {recorded:.6g} in training and is {current:.6g} on"
                " this machine"
            )
    return notes


def _with_difference(
    row: ComparedRow,
    baseline: ComparedRow,
    values: Mapping[str, _BootstrapValues | str],
    rows: Sequence[ComparedRow],
) -> ComparedRow:
    """``row`` with its difference to ``baseline``, or with the reason why there is none."""
    row_values, baseline_values = values.get(row.name), values.get(baseline.name)
    if row.name == baseline.name:
        is_alone = len(_with_same_rows(rows, row)) < 2 <= len(rows)
        return replace(row, reason=_ALONE if is_alone else "")
    row = replace(row, baseline=baseline.name)
    if row.validation_fingerprint != baseline.validation_fingerprint:
        return replace(row, reason=_DIFFERENT_ROWS)
    if isinstance(row_values, str):
        return replace(row, reason=row_values)
    if isinstance(baseline_values, str):
        return replace(row, reason=f"{baseline.name}: {baseline_values}")
    if row_values is None or baseline_values is None:
        return replace(row, reason="draws=0")
    if row_values.used_rows != baseline_values.used_rows:
        return replace(row, reason=_DIFFERENT_ROWS)
    return replace(row, difference=paired_difference(row_values.metric, baseline_values.metric))


def _accounting_notes(runs: Sequence[FinishedRun]) -> list[str]:
    """The accounting of each different set of validation rows."""
    notes: dict[str, str] = {}
    for run in runs:
        split = run.validation_split
        if "read" not in split:  # an earlier version recorded only used and skipped rows
            read = split["rows"] + sum(split["skipped"].values())
            split = {**split, "read": read, "unused": {}, "dropped": {}, "blank_lines": 0}
        notes.setdefault(
            run.validation_fingerprint,
            format_accounting(f"validation ({split['source']})", {**split, "used": split["rows"]}),
        )
    return list(notes.values())


def _hardware_notes(runs: Sequence[FinishedRun]) -> list[str]:
    facts = ("cpu", "gpu", "device", "threads", "processes")
    hardware = {tuple(run.manifest["hardware"].get(name) for name in facts) for run in runs}
    if len(hardware) < 2:
        return []
    return [
        f"time and memory were measured on {len(hardware)} different machines or numbers of threads"
    ]
