"""What ``bertft eval`` shows: tables in the terminal, and ``report.html`` with pictures.

The sections are those of a run's report that need no training: results, predictions and data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import RenderableType

from bertft.data.features import FeatureTable
from bertft.export.result_tables import format_interval
from bertft.report.intervals import DRAWS, Intervals
from bertft.report.run_report import render_sections
from bertft.report.sections import Section
from bertft.report.tables import score_items
from bertft.report.terminal_table import FittedTable
from bertft.tasks.report_items import HeatMap, ReportItem, TableCell, TableItem, clip_text
from bertft.tasks.task import BaseTask
from bertft.utils.atomic_io import atomic_write_text
from bertft.utils.numbers import format_count, format_score
from bertft.utils.status import show_status

__all__ = ["Evaluation", "evaluation_tables", "write_evaluation_report"]

_SHOWN = ("confusion", "classes", "worst")  # items of a task that the terminal shows
_MAX_CLASSES = 20  # rows of the table of classes in the terminal
_MAX_MATRIX_COLUMNS = 8
_MAX_EXAMPLES = 5
_MAX_TEXT = 160  # characters of an example
_REPORT_NAME = "report.html"


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation.

    Attributes:
        source: The run, the adapter or the folder of the model.
        split: The name of the evaluated split.
        task: The task, with the tuned threshold if there is one.
        metrics: All metrics.
        counts: The accounting of the rows, with their ``source``.
        outputs: What the task computed the metrics from.
        features: The features of the rows, in the order of ``outputs``.
        intervals: Metric → ends of its 95 % confidence interval.
        facts: Name → value, about the model.
    """

    source: str
    split: str
    task: BaseTask
    metrics: Mapping[str, float]
    counts: Mapping[str, Any]
    outputs: np.ndarray
    features: FeatureTable
    intervals: Intervals = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)


def evaluation_tables(evaluation: Evaluation) -> list[RenderableType]:
    """The metrics, the scores per class, the confusion matrix and the worst rows."""
    items = evaluation.task.report_items(evaluation.outputs, evaluation.features)
    shown = [_for_terminal(item) for item in items if item.name in _SHOWN]
    tables = [*_result_tables(evaluation), *shown]
    return [FittedTable(table) for table in tables if table is not None]


def _result_tables(evaluation: Evaluation) -> list[TableItem]:
    notes = [evaluation.task.metric_note]
    if evaluation.intervals:
        notes.append(f"Intervals: bootstrap over the rows, {DRAWS:,} samples")
    return score_items(
        evaluation.metrics,
        evaluation.task.metric,
        evaluation.split,
        evaluation.counts["used"],
        " ".join(f"{note}." for note in notes if note),
        evaluation.intervals,
    )


def _for_terminal(item: ReportItem) -> TableItem | None:
    """``item`` as a short table; None if it does not fit."""
    if isinstance(item, HeatMap):
        return _matrix_table(item) if len(item.columns) <= _MAX_MATRIX_COLUMNS else None
    if not isinstance(item, TableItem):
        return None
    if item.name == "worst":
        return _shorten_examples(item)
    if item.name == "classes" and len(item.rows) > _MAX_CLASSES and "F1" in item.head:
        column = list(item.head).index("F1")
        rows = sorted(item.rows, key=lambda row: row[column] or 0.0)[:_MAX_CLASSES]
        note = f"The {_MAX_CLASSES} of {len(item.rows)} classes with the lowest F1. {item.note}"
        return replace(item, rows=rows, note=note.strip())
    return item


def _matrix_table(item: HeatMap) -> TableItem:
    corner = f"{item.row_title} ↓ {item.column_title} →"
    rows: list[list[TableCell]] = [
        [name, *(int(value) for value in values)]
        for name, values in zip(item.rows, item.values.tolist(), strict=True)
    ]
    head = [corner, *item.columns]
    kinds = ["word", *["number"] * len(item.columns)]
    return TableItem(item.name, item.title, head=head, rows=rows, kinds=kinds)


def _shorten_examples(item: TableItem) -> TableItem:
    rows = [
        [clip_text(cell, _MAX_TEXT) if isinstance(cell, str) else cell for cell in row]
        for row in item.rows[:_MAX_EXAMPLES]
    ]
    return replace(item, rows=rows)


def write_evaluation_report(
    evaluation: Evaluation, folder: Path, warn: Callable[[str], object]
) -> Path:
    """Write ``folder``/report.html and plots/, and return the path of the page."""
    show_status("drawing report")
    from bertft.report.page.render import render_page  # Jinja takes long to import

    task, counts = evaluation.task, evaluation.counts
    interval = evaluation.intervals.get(task.metric)
    prediction_items = partial(task.report_items, evaluation.outputs, evaluation.features)
    sections = render_sections(
        [
            (Section("results", "Results"), partial(_result_tables, evaluation)),
            (Section("predictions", "Predictions"), prediction_items),
            (Section("data", "Data"), partial(_data_tables, evaluation)),
        ],
        folder,
        warn,
    )
    page = render_page(
        "eval.html.j2",
        source=evaluation.source,
        rows_source=str(counts["source"]),
        folder=folder.name,
        date=f"{datetime.now():%d %B %Y, %H:%M}",
        description=f"{task.name.replace('_', ' ')}, {evaluation.split} split",
        value=format_score(evaluation.metrics.get(task.metric)),
        metric=task.metric,
        interval=format_interval(interval) if interval is not None else "",
        facts=[
            ("Rows", format_count(counts["used"]), [f"of {format_count(counts['read'])} read"]),
            *((name, value, []) for name, value in evaluation.facts.items()),
        ],
        sections=sections,
    )
    path = folder / _REPORT_NAME
    atomic_write_text(path, page)
    return path


def _data_tables(evaluation: Evaluation) -> Iterator[TableItem]:
    counts = evaluation.counts
    rows = [["source", str(counts["source"])]]
    rows += [[name, format_count(counts[name])] for name in ("read", "used")]
    for group in ("skipped", "unused", "dropped"):
        rows += [
            [f"{group}: {reason}", format_count(number)] for reason, number in counts[group].items()
        ]
    yield TableItem("data", "Rows", head=("", ""), rows=rows)
