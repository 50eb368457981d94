"""The validation rows that one row of a comparison predicts correctly and another does not.

Only for classification, whose row statistics start with the true and the predicted class. If a row
of the comparison has several seeds, the predictions are those of its first run.
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
from bertft.tasks.report_items import TableItem
from bertft.tasks.shared.report import format_row_location, format_row_text

__all__ = ["MAX_CHANGED", "changed_row_tables"]

MAX_CHANGED = 50  # rows per table
_MAX_TABLES = 4

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
    with hide_recorded_content(data):
        splits = load_splits(
            data, ("validation",), model_classes=manifest["labels"], cached_only=True
        )
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
    true_classes, old_classes = before.statistics[:, :2].astype(int).T
    new_classes = after.statistics[:, 1].astype(int)
    was_correct, is_correct = old_classes == true_classes, new_classes == true_classes
    broken = np.flatnonzero(was_correct & ~is_correct)
    fixed = np.flatnonzero(~was_correct & is_correct)
    both_wrong = np.flatnonzero(~was_correct & ~is_correct & (old_classes != new_classes))
    shown_broken = broken[: max(MAX_CHANGED // 2, MAX_CHANGED - len(fixed))]
    shown_fixed = fixed[: MAX_CHANGED - len(shown_broken)]
    cells = []
    for index in [*shown_broken, *shown_fixed]:
        location, text = read_row(int(before.rows[index]))
        change = "correct → wrong" if was_correct[index] else "wrong → correct"
        names = (classes[column[index]] for column in (true_classes, old_classes, new_classes))
        cells.append([location, text, change, *names])
    note = (
        f"Rows that only {baseline.name} predicts correctly: {len(broken):,}."
        f" Rows that only {row.name} predicts correctly: {len(fixed):,}."
        f" Rows with two different wrong predictions, which are not listed: {len(both_wrong):,}."
    )
    if len(cells) < len(broken) + len(fixed):
        note += f" The table has {len(cells)} rows."
    return TableItem(
        f"changed-{row.name}",
        f"{baseline.name} → {row.name}",
        note,
        head=("row", "text", "change", "true class", baseline.name, row.name),
        rows=cells,
        kinds=("word", "text", "word", "word", "word", "word"),
    )
