"""Runs → lines, best first, each with its name and its difference to the one it is held against."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np

from bertft.assembly.row_scores import RowScores
from bertft.config.messages import suggestion
from bertft.config.tasks import LOWER_IS_BETTER
from bertft.data.accounting import accounting_line
from bertft.errors import BertftError, UsageError
from bertft.reports.compare.bootstrap import Difference, difference, resampled
from bertft.reports.compare.names import names_of
from bertft.reports.compare.read import ReadRun
from bertft.reports.lines import Line, lines_of

__all__ = ["Compared", "Comparison", "compare"]

_CLOSE = 1e-6  # of a metric that was evaluated again on the same rows


@dataclass(frozen=True)
class Compared:
    """A ``line`` of runs. Either ``against`` another, or ``why`` it is held against none.

    ``kept``: parameters of the method after pruning; ``rows``: which validation rows.
    """

    name: str
    line: Line
    kept: int
    rows: str
    against: str | None = None
    difference: Difference | None = None
    why: str = ""


@dataclass(frozen=True)
class Comparison:
    """``lines`` best first; ``notes`` are sentences that a reader of the numbers must know."""

    metric: str
    lower: bool
    lines: list[Compared]
    draws: int
    notes: list[str]


def compare(
    runs: Sequence[ReadRun],
    against: str | None,
    draws: int,
    scores: Callable[[ReadRun], RowScores],
) -> Comparison:
    """``against``: a run's folder or a line's name; None: the best on the same rows.

    ``scores`` gives what each row of a run adds; what it raises is told as why there is no
    difference. UsageError where ``against`` is nothing of these.
    """
    of = {run.result.folder: run for run in runs}
    rows_of = {run.result.folder: run.rows for run in runs}
    results = [run.result for run in runs]
    lines = lines_of(results, LOWER_IS_BETTER, lambda line: rows_of[line.jobs[0].folder])
    metric = lines[0].metric or ""
    sign = -1 if metric in LOWER_IS_BETTER else 1
    lines.sort(key=lambda line: (-sign * (line.mean or 0.0), line.parameters or 0))
    found = [
        Compared(name, line, _kept(line), rows_of[line.jobs[0].folder])
        for name, line in zip(names_of(lines), lines, strict=True)
    ]
    chosen = _chosen(found, against)
    values, notes = _values(found, of, draws, scores)
    for place, each in enumerate(found):
        other = chosen or next(one for one in found if one.rows == each.rows and one.line.best)
        found[place] = _held(each, other, values, found)
    notes += [*_accounting(runs), *_machines(runs)]
    return Comparison(metric, metric in LOWER_IS_BETTER, found, draws, notes)


def _kept(line: Line) -> int:
    return round(fmean(job.metrics["parameters"]["kept"] for job in line.jobs if job.metrics))


def _chosen(found: Sequence[Compared], against: str | None) -> Compared | None:
    if against is None:
        return None
    folder = Path(against).expanduser().resolve()
    for each in found:
        if each.name == against or folder in [job.folder.resolve() for job in each.line.jobs]:
            return each
    raise UsageError(
        f"{against} is none of what is compared", where="against",
        hint=suggestion(against, [each.name for each in found]),
    )  # fmt: skip


def _values(
    found: Sequence[Compared],
    of: dict[Path, ReadRun],
    draws: int,
    scores: Callable[[ReadRun], RowScores],
) -> tuple[dict[str, np.ndarray | str], list[str]]:
    """Name of a line → its runs' metric [runs, 1 + draws], or why it has none; and notes."""
    told: dict[str, np.ndarray | str] = {}
    notes: list[str] = []
    groups: dict[tuple[str, bytes], list[tuple[str, list[RowScores]]]] = {}
    for each in found if draws else ():
        if sum(other.rows == each.rows for other in found) < 2:
            continue  # nothing to be held against, whatever it would answer
        try:
            made = [scores(of[job.folder]) for job in each.line.jobs]
        except BertftError as error:
            told[each.name] = str(error)
            continue
        if len({one.rows.tobytes() for one in made}) > 1:
            told[each.name] = "its runs could use different rows"
            continue
        notes += _moved(each, made, of)
        groups.setdefault((each.rows, made[0].rows.tobytes()), []).append((each.name, made))
    for members in groups.values():
        rows = len(members[0][1][0].rows)
        metrics = [one.metric for _, made in members for one in made]
        values = resampled(metrics, rows, draws)
        sizes = [len(made) for _, made in members]
        pieces = np.split(values, np.cumsum(sizes)[:-1])
        told |= {name: piece for (name, _), piece in zip(members, pieces, strict=True)}
    return told, notes


def _moved(each: Compared, made: Sequence[RowScores], of: Mapping[Path, ReadRun]) -> list[str]:
    """Where the checkpoint does not score again what training recorded."""
    notes = []
    for job, scores in zip(each.line.jobs, made, strict=True):
        assert job.metrics is not None
        then = float(job.metrics["best"]["value"])
        now = float(scores.metric(np.ones((1, len(scores.rows))))[0])
        recorded = of[job.folder].validation["rows"]
        if len(scores.rows) != recorded:
            notes.append(
                f"{job.folder}: {recorded:,} validation rows when it was trained,"
                f" {len(scores.rows):,} answered now"
            )
        if not abs(now - then) <= _CLOSE * max(1.0, abs(then)):
            notes.append(f"{job.folder}: {then:.6g} when it was trained, {now:.6g} on this machine")
    return notes


def _held(
    each: Compared,
    other: Compared,
    values: dict[str, np.ndarray | str],
    found: Sequence[Compared],
) -> Compared:
    """``each`` with its difference to ``other``, or with why there is none."""
    own, theirs = values.get(each.name), values.get(other.name)
    why, gap = "", None
    if each.rows != other.rows:
        why = f"other validation rows than {other.name}"
    elif each is other or each.name == other.name:
        alone = sum(one.rows == each.rows for one in found) < 2
        why = "no other line has these validation rows" if alone and len(found) > 1 else ""
    elif isinstance(own, str):
        why = own
    elif isinstance(theirs, str):
        why = f"{other.name}: {theirs}"
    elif own is None or theirs is None:
        why = "not asked for (draws=0)"
    elif own.shape[1] != theirs.shape[1]:
        why = f"could use other rows than {other.name}"
    else:
        gap = difference(own, theirs)
    name = None if each.name == other.name else other.name
    return Compared(each.name, each.line, each.kept, each.rows, name, gap, why)


def _accounting(runs: Sequence[ReadRun]) -> list[str]:
    """The accounting of each different set of validation rows."""
    lines: dict[str, str] = {}
    for run in runs:
        split = run.validation
        if "read" not in split:  # an earlier version recorded the rows used and skipped alone
            read = split["rows"] + sum(split["skipped"].values())
            split = {**split, "read": read, "unused": {}, "dropped": {}, "blank_lines": 0}
        lines.setdefault(
            run.rows,
            accounting_line(f"validation ({split['source']})", {**split, "used": split["rows"]}),
        )
    return list(lines.values())


def _machines(runs: Sequence[ReadRun]) -> list[str]:
    facts = ("cpu", "gpu", "device", "threads", "processes")
    known = {tuple(run.manifest["hardware"].get(name) for name in facts) for run in runs}
    if len(known) < 2:
        return []
    return [f"seconds and memory are of {len(known)} different machines or numbers of threads"]
