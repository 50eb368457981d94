"""The validation rows whose answer differs between two rows of a comparison.

The task says what the answers are and how right they are (``BaseTask.row_answers``). Of a row with
several seeds, the first run counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from bertft.config.resume import read_run_config
from bertft.data.splits import load_splits
from bertft.pipeline.manifest import recorded_data
from bertft.pipeline.recorded_rows import check_recorded_rows, hide_recorded_content
from bertft.report.compare.comparison import ComparedRow, Comparison
from bertft.report.compare.row_statistics import RowStatistics
from bertft.runs.manifest import read_manifest
from bertft.runs.run_folder import RunFolder
from bertft.tasks.report_items import TableItem, clip_text
from bertft.tasks.row_answers import RowAnswers
from bertft.tasks.shared.report import format_row_location, format_row_text
from bertft.tasks.task import BaseTask

__all__ = ["MAX_CHANGED", "changed_row_tables"]

MAX_CHANGED = 50  # rows per table
_MAX_TABLES = 4
_MAX_ANSWER = 160  # characters

ReadRow = Callable[[int], tuple[str, str]]  # number of a validation row → location, text


def changed_row_tables(
    comparison: Comparison, read_row: Callable[[ComparedRow], ReadRow] | None = None
) -> Iterator[TableItem]:
    """One table per row that is compared with a baseline, the best row first.

    Args:
        comparison: The comparison.
        read_row: Reads the validation rows of a compared row; None: from its run.

    Raises:
        DataError: If the validation rows cannot be read, or have changed.
    """
    rows = {row.name: row for row in comparison.rows}
    readers: dict[str, ReadRow] = {}
    tables = 0
    for row in comparison.rows:
        baseline = rows.get(row.baseline or "")
        if baseline is None or row.difference is None or tables == _MAX_TABLES:
            continue
        if not {baseline.name, row.name} <= comparison.statistics.keys():
            continue
        before, after = (comparison.statistics[name][0] for name in (baseline.name, row.name))
        if before.answers is None or after.answers is None:
            continue
        if (before.answers.is_right is None) != (after.answers.is_right is None):
            continue  # not of one version of the task
        if baseline.name not in readers:
            readers[baseline.name] = (
                _open_rows(baseline, before.task) if read_row is None else read_row(baseline)
            )
        change = _AnswerChange(before, before.answers, after.answers)
        names = baseline.name, row.name
        build = _graded_table if before.answers.is_right is None else _changed_rows
        yield build(change, *names, readers[baseline.name])
        tables += 1


class _AnswerChange:
    """The answers of two runs to the same rows, and the cells that describe a row of them."""

    def __init__(self, statistics: RowStatistics, before: RowAnswers, after: RowAnswers) -> None:
        self.task, self.rows = statistics.task, statistics.rows
        self.before, self.after = before, after
        has_scores = before.scores is not None and after.scores is not None
        self.score_name = self.task.answer_score if has_scores else ""

    @property
    def gain(self) -> np.ndarray:
        """By how much the score of each row became better [R]; 0 without scores."""
        if self.before.scores is None or self.after.scores is None:
            return np.zeros(len(self.before))
        sign = -1.0 if self.task.lower_answer_score_is_better else 1.0
        return sign * (self.after.scores - self.before.scores)

    def head(self, *names: str) -> tuple[str, ...]:
        truth = f"true {self.task.answer_noun}"
        return ("row", "text", "change", truth, *names, *filter(None, [self.score_name]))

    def kinds(self) -> tuple[str, ...]:
        answer = "word" if self.before.scores is None else "text"  # classes are words
        return ("word", "text", "word", *[answer] * 3, *["word"] * bool(self.score_name))

    def cells(self, index: int, change: str, read_row: ReadRow) -> list[str]:
        """The cells of row ``index`` of the answers."""
        location, text = read_row(int(self.rows[index]))
        answers = (self.before.truth, self.before.answers, self.after.answers)
        cells = [location, text, change, *(clip_text(a[index], _MAX_ANSWER) for a in answers)]
        if self.score_name:
            scores = (values.scores for values in (self.before, self.after))
            cells.append(" → ".join(f"{s[index]:.4g}" for s in scores if s is not None))
        return cells


def _open_rows(row: ComparedRow, task: BaseTask) -> ReadRow:
    """The validation rows of the first run of ``row``, checked against its manifest."""
    run = RunFolder(row.result.jobs[0].folder)
    manifest = read_manifest(run)
    data = recorded_data(read_run_config(run.path).data, manifest)
    with hide_recorded_content(data):
        splits = load_splits(
            data, ("validation",), model_classes=manifest["labels"], cached_only=True
        )
    check_recorded_rows(splits, manifest, data)
    validation = splits.validation
    assert validation is not None, "a compared run has validation rows"
    return lambda number: (
        format_row_location(validation, number),
        format_row_text(validation, number, task.text_columns),
    )


def _changed_rows(change: _AnswerChange, baseline: str, name: str, read_row: ReadRow) -> TableItem:
    """Rows that one of the two runs answers correctly, then those that both answer wrongly."""
    before, after, gain = change.before, change.after, change.gain
    assert before.is_right is not None and after.is_right is not None
    right, other_right = before.is_right, after.is_right
    is_same = np.array([a == b for a, b in zip(before.answers, after.answers, strict=True)], bool)
    lost = _by_size(right & ~other_right, gain)
    won = _by_size(~right & other_right, gain)
    moved = _by_size(~right & ~other_right & ~is_same, gain)
    share = MAX_CHANGED // 2
    shown_lost = lost[: max(share, MAX_CHANGED - len(won))]
    shown_won = won[: MAX_CHANGED - len(shown_lost)]
    shown_moved = moved[: MAX_CHANGED - len(shown_lost) - len(shown_won)]
    rows = [change.cells(index, "correct → wrong", read_row) for index in shown_lost]
    rows += [change.cells(index, "wrong → correct", read_row) for index in shown_won]
    rows += [
        change.cells(index, _describe(gain[index]) or "wrong → wrong", read_row)
        for index in shown_moved
    ]
    note = (
        f"Rows that only {baseline} predicts correctly: {len(lost):,}."
        f" Rows that only {name} predicts correctly: {len(won):,}."
        f" Rows with two different wrong predictions: {len(moved):,}."
    )
    if len(rows) < len(lost) + len(won) + len(moved):
        note += f" The table has {len(rows)} rows."
    return _table(change, baseline, name, note, rows)


def _graded_table(change: _AnswerChange, baseline: str, name: str, read_row: ReadRow) -> TableItem:
    """Rows whose scores differ most, for answers that are only more or less right."""
    gain = change.gain
    changed = _by_size(gain != 0, gain)
    rows = [
        change.cells(index, _describe(gain[index]), read_row) for index in changed[:MAX_CHANGED]
    ]
    note = (
        f"{change.score_name} of {name} is better than that of {baseline} for"
        f" {int((gain > 0).sum()):,} rows and worse for {int((gain < 0).sum()):,}. Largest"
        " differences first."
    )
    if len(rows) < len(changed):
        note += f" {len(rows)} are shown."
    return _table(change, baseline, name, note[0].upper() + note[1:], rows)


def _describe(gain: float) -> str:
    return "better" if gain > 0 else "worse" if gain < 0 else ""


def _by_size(selected: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """The indices of the ``selected`` rows, the largest change of the score first."""
    indices = np.flatnonzero(selected)
    return indices[np.argsort(-np.abs(gain[indices]), kind="stable")]


def _table(
    change: _AnswerChange, baseline: str, name: str, note: str, rows: list[list[str]]
) -> TableItem:
    return TableItem(
        f"changed-{name}",
        f"{baseline} → {name}",
        note,
        head=change.head(baseline, name),
        rows=rows,
        kinds=change.kinds(),
    )
