"""The validation rows whose answer differs between two rows of a comparison.

They are known for tasks whose row statistics start with the true and the predicted class, which is
one class per row. Of a row with several seeds, the first run counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from bertft.config.resume import read_run_config
from bertft.data.splits import load_splits
from bertft.pipeline.manifest import recorded_data
from bertft.pipeline.recorded_rows import check_recorded_rows, only_recorded
from bertft.report.compare.comparison import ComparedRow, Comparison
from bertft.report.compare.row_statistics import RowStatistics
from bertft.runs.manifest import read_manifest
from bertft.runs.run_folder import RunFolder
from bertft.tasks.report_items import TableItem
from bertft.tasks.shared.report import format_row_location, format_row_text

__all__ = ["MAX_CHANGED", "changed_row_tables"]

MAX_CHANGED = 50  # rows per table
_MAX_TABLES = 4

ReadRow = Callable[[int], tuple[str, str]]  # number of a validation row → location, text


def changed_row_tables(
    comparison: Comparison, read_row: Callable[[ComparedRow], ReadRow] | None = None
) -> Iterator[TableItem]:
    """One table per row that is compared with a baseline, the largest differences first.

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
        if not (_has_classes(before) and _has_classes(after)):
            continue
        if baseline.name not in readers:
            readers[baseline.name] = (read_row or _open_rows)(baseline)
        yield _changed_rows(baseline, row, before, after, readers[baseline.name])
        tables += 1


def _has_classes(statistics: RowStatistics) -> bool:
    """Whether the first two statistics of a row are its true and its predicted class."""
    return statistics.task.name == "classification"


def _open_rows(row: ComparedRow) -> ReadRow:
    """The validation rows of the first run of ``row``, checked against its manifest."""
    run = RunFolder(row.result.jobs[0].folder)
    manifest = read_manifest(run)
    data = recorded_data(read_run_config(run.path).data, manifest)
    with only_recorded(data):  # an error must not quote a file that the run names
        splits = load_splits(data, ("train", "validation"), cached_only=True)
    check_recorded_rows(splits, manifest, data)
    validation = splits.validation
    assert validation is not None, "a compared run has validation rows"
    return lambda number: (
        format_row_location(validation, number),
        format_row_text(validation, number),
    )


def _changed_rows(
    baseline: ComparedRow,
    row: ComparedRow,
    before: RowStatistics,
    after: RowStatistics,
    read_row: ReadRow,
) -> TableItem:
    classes = before.task.class_names or []
    truth, answers = before.statistics[:, 0].astype(int), before.statistics[:, 1].astype(int)
    other_answers = after.statistics[:, 1].astype(int)
    right, other_right = answers == truth, other_answers == truth
    lost, won = np.flatnonzero(right & ~other_right), np.flatnonzero(~right & other_right)
    moved = np.flatnonzero(~right & ~other_right & (answers != other_answers))
    share = MAX_CHANGED // 2
    shown_lost = lost[: max(share, MAX_CHANGED - len(won))]
    shown_won = won[: MAX_CHANGED - len(shown_lost)]
    cells = []
    for index in [*shown_lost, *shown_won]:
        location, text = read_row(int(before.rows[index]))
        change = "right → wrong" if right[index] else "wrong → right"
        names = (classes[number[index]] for number in (truth, answers, other_answers))
        cells.append([location, text, change, *names])
    note = (
        f"{len(lost):,} rows that {baseline.name} answers correctly and {row.name} does not,"
        f" {len(won):,} the other way round, {len(moved):,} that both answer wrongly in different"
        " ways (not listed)."
    )
    if len(cells) < len(lost) + len(won):
        note += f" {len(cells)} are shown."
    return TableItem(
        f"changed-{row.name}",
        f"{baseline.name} → {row.name}",
        note,
        head=("row", "text", "change", "true class", baseline.name, row.name),
        rows=cells,
        kinds=("word", "text", "word", "word", "word", "word"),
    )
