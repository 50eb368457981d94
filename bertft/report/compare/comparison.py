"""Runs → lines, best first, each with its name and its difference to the one it is held against."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np

from bertft.config.task_facts import LOWER_IS_BETTER
from bertft.data.rows import format_accounting
from bertft.errors import BertftError, UsageError
from bertft.report.compare.bootstrap import Difference, bootstrap_metrics, paired_difference
from bertft.report.compare.read import FinishedRun
from bertft.report.compare.row_statistics import RowStatistics
from bertft.report.result_rows import ResultRow, group_results
from bertft.utils.messages import suggest

__all__ = [
    "ComparedRow",
    "Comparison",
    "compare_runs",
    "name_rows",
]


# What follows the method in a name, where it differs, in this order.
_NAME_SETTINGS = ("method.rank", "model.name", "data.name")
_NAMED_SETTINGS = ("method.name", *_NAME_SETTINGS)


def name_rows(results: Sequence[ResultRow]) -> list[str]:
    """A name for each, all different."""
    names = [_short_name(line) for line in results]
    repeated_names = {name for name, count in Counter(names).items() if count > 1}
    for name in repeated_names:
        positions = [place for place, each in enumerate(names) if each == name]
        settings = [results[place].settings for place in positions]
        differing_settings = [
            key
            for key in settings[0]
            if key not in _NAMED_SETTINGS and len({each[key] for each in settings}) > 1
        ]
        for position, own_settings in zip(positions, settings, strict=True):
            words = [f"{key.rpartition('.')[2]}={own_settings[key]}" for key in differing_settings]
            names[position] = " ".join([name, *words])
    counts = Counter(names)  # settings of one last name in two groups, say
    return [
        name if counts[name] == 1 else f"{name} #{place}" for place, name in enumerate(names, 1)
    ]


def _short_name(result: ResultRow) -> str:
    settings = result.jobs[0].settings  # all of them, also what is the same in every line
    words = [settings["method.name"]]
    for key in _NAME_SETTINGS:
        value = settings.get(key, "")
        if value not in ("", "null"):
            words.append(f"r{value}" if key == "method.rank" else value)
    return " ".join(words)


_RESCORE_TOLERANCE = 1e-6  # of a metric that was evaluated again on the same rows


@dataclass(frozen=True)
class ComparedRow:
    """A ``result`` of runs. Either ``baseline`` another, or ``reason`` it is held against none.

    ``kept_parameters``: parameters of the method after pruning; ``validation_fingerprint``: which
    validation rows.
    """

    name: str
    result: ResultRow
    kept_parameters: int
    validation_fingerprint: str
    baseline: str | None = None
    difference: Difference | None = None
    reason: str = ""


@dataclass(frozen=True)
class Comparison:
    """``rows`` best first; ``notes`` are sentences that a reader of the numbers must know."""

    metric: str
    lower_is_better: bool
    rows: list[ComparedRow]
    draws: int
    notes: list[str]


def compare_runs(
    runs: Sequence[FinishedRun],
    against: str | None,
    draws: int,
    scores: Callable[[FinishedRun], RowStatistics],
) -> Comparison:
    """``against``: a run's folder or a line's name; None: the best on the same rows.

    ``scores`` gives what each row of a run adds; what it raises is told as why there is no
    difference. UsageError where ``against`` is nothing of these.
    """
    runs_by_folder = {run.result.folder: run for run in runs}
    fingerprints = {run.result.folder: run.validation_fingerprint for run in runs}
    results = [run.result for run in runs]
    grouped = group_results(
        results, LOWER_IS_BETTER, lambda line: fingerprints[line.jobs[0].folder]
    )
    metric = grouped[0].metric or ""
    sign = -1 if metric in LOWER_IS_BETTER else 1
    grouped.sort(key=lambda line: (-sign * (line.mean or 0.0), line.parameters or 0))
    compared_rows = [
        ComparedRow(name, line, _mean_kept_parameters(line), fingerprints[line.jobs[0].folder])
        for name, line in zip(name_rows(grouped), grouped, strict=True)
    ]
    baseline = _find_baseline(compared_rows, against)
    values, notes = _bootstrap_values(compared_rows, runs_by_folder, draws, scores)
    for index, row in enumerate(compared_rows):
        reference = baseline or next(
            one
            for one in compared_rows
            if one.validation_fingerprint == row.validation_fingerprint and one.result.best
        )
        compared_rows[index] = _with_difference(row, reference, values, compared_rows)
    notes += [*_accounting_notes(runs), *_hardware_notes(runs)]
    return Comparison(metric, metric in LOWER_IS_BETTER, compared_rows, draws, notes)


def _mean_kept_parameters(result: ResultRow) -> int:
    return round(fmean(job.metrics["parameters"]["kept"] for job in result.jobs if job.metrics))


def _find_baseline(compared_rows: Sequence[ComparedRow], against: str | None) -> ComparedRow | None:
    if against is None:
        return None
    folder = Path(against).expanduser().resolve()
    for row in compared_rows:
        if row.name == against or folder in [job.folder.resolve() for job in row.result.jobs]:
            return row
    raise UsageError(
        f"{against} is none of what is compared",
        where="against",
        hint=suggest(against, [each.name for each in compared_rows]),
    )


def _bootstrap_values(
    compared_rows: Sequence[ComparedRow],
    runs_by_folder: dict[Path, FinishedRun],
    draws: int,
    scores: Callable[[FinishedRun], RowStatistics],
) -> tuple[dict[str, np.ndarray | str], list[str]]:
    """Name of a line → its runs' metric [runs, 1 + draws], or why it has none; and notes."""
    values_by_name: dict[str, np.ndarray | str] = {}
    notes: list[str] = []
    groups: dict[tuple[str, bytes], list[tuple[str, list[RowStatistics]]]] = {}
    for row in compared_rows if draws else ():
        if (
            sum(
                other.validation_fingerprint == row.validation_fingerprint
                for other in compared_rows
            )
            < 2
        ):
            continue  # nothing to be held against, whatever it would answer
        try:
            statistics = [scores(runs_by_folder[job.folder]) for job in row.result.jobs]
        except BertftError as error:
            values_by_name[row.name] = str(error)
            continue
        if len({one.rows.tobytes() for one in statistics}) > 1:
            values_by_name[row.name] = "its runs could use different rows"
            continue
        notes += _rescore_notes(row, statistics, runs_by_folder)
        groups.setdefault((row.validation_fingerprint, statistics[0].rows.tobytes()), []).append(
            (row.name, statistics)
        )
    for members in groups.values():
        rows = len(members[0][1][0].rows)
        metrics = [one.metric for _, made in members for one in made]
        values = bootstrap_metrics(metrics, rows, draws)
        sizes = [len(made) for _, made in members]
        pieces = np.split(values, np.cumsum(sizes)[:-1])
        values_by_name |= {name: piece for (name, _), piece in zip(members, pieces, strict=True)}
    return values_by_name, notes


def _rescore_notes(
    row: ComparedRow,
    statistics: Sequence[RowStatistics],
    runs_by_folder: Mapping[Path, FinishedRun],
) -> list[str]:
    """Where the checkpoint does not score again what training recorded."""
    notes = []
    for job, scores in zip(row.result.jobs, statistics, strict=True):
        assert job.metrics is not None
        recorded_value = float(job.metrics["best"]["value"])
        current_value = float(scores.metric(np.ones((1, len(scores.rows))))[0])
        recorded = runs_by_folder[job.folder].validation_split["rows"]
        if len(scores.rows) != recorded:
            notes.append(
                f"{job.folder}: {recorded:,} validation rows when it was trained,"
                f" {len(scores.rows):,} answered now"
            )
        if not abs(current_value - recorded_value) <= _RESCORE_TOLERANCE * max(
            1.0, abs(recorded_value)
        ):
            notes.append(
                f"{job.folder}: {recorded_value:.6g} when it was trained, {current_value:.6g} on"
                " this machine"
            )
    return notes


def _with_difference(
    row: ComparedRow,
    other: ComparedRow,
    values: dict[str, np.ndarray | str],
    compared_rows: Sequence[ComparedRow],
) -> ComparedRow:
    """``row`` with its difference to ``other``, or with why there is none."""
    own_values, baseline_values = values.get(row.name), values.get(other.name)
    reason, gap = "", None
    if row.validation_fingerprint != other.validation_fingerprint:
        reason = f"other validation rows than {other.name}"
    elif row is other or row.name == other.name:
        alone = (
            sum(one.validation_fingerprint == row.validation_fingerprint for one in compared_rows)
            < 2
        )
        reason = (
            "no other line has these validation rows" if alone and len(compared_rows) > 1 else ""
        )
    elif isinstance(own_values, str):
        reason = own_values
    elif isinstance(baseline_values, str):
        reason = f"{other.name}: {baseline_values}"
    elif own_values is None or baseline_values is None:
        reason = "not asked for (draws=0)"
    elif own_values.shape[1] != baseline_values.shape[1]:
        reason = f"could use other rows than {other.name}"
    else:
        gap = paired_difference(own_values, baseline_values)
    name = None if row.name == other.name else other.name
    return ComparedRow(
        row.name, row.result, row.kept_parameters, row.validation_fingerprint, name, gap, reason
    )


def _accounting_notes(runs: Sequence[FinishedRun]) -> list[str]:
    """The accounting of each different set of validation rows."""
    notes: dict[str, str] = {}
    for run in runs:
        split = run.validation_split
        if "read" not in split:  # an earlier version recorded the rows used and skipped alone
            read = split["rows"] + sum(split["skipped"].values())
            split = {**split, "read": read, "unused": {}, "dropped": {}, "blank_lines": 0}
        notes.setdefault(
            run.validation_fingerprint,
            format_accounting(f"validation ({split['source']})", {**split, "used": split["rows"]}),
        )
    return list(notes.values())


def _hardware_notes(runs: Sequence[FinishedRun]) -> list[str]:
    facts = ("cpu", "gpu", "device", "threads", "processes")
    known = {tuple(run.manifest["hardware"].get(name) for name in facts) for run in runs}
    if len(known) < 2:
        return []
    return [f"seconds and memory are of {len(known)} different machines or numbers of threads"]
