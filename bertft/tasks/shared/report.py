"""Report items that tasks share: a confusion matrix, scores by class, example rows.

The examples are the worst rows (confident errors) and the most uncertain ones: the former show
wrong labels or weaknesses of the model, the latter the rows whose labels would help most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from bertft.data.rows import Rows
from bertft.tasks.report_items import HeatMap, Percent, ReportItem, TableCell, TableItem, clip_text
from bertft.tasks.shared.metrics import f1_score

__all__ = [
    "MAX_EXAMPLES",
    "class_score_table",
    "confusion_item",
    "example_tables",
    "format_row_location",
    "format_row_text",
]

MAX_EXAMPLES = 10  # rows of each kind
_MAX_MATRIX_CLASSES = 16  # a matrix with more classes is shown as a list of pairs
_MAX_PAIRS = 20


def confusion_item(counts: np.ndarray, classes: Sequence[str], unit: str = "rows") -> ReportItem:
    """``counts`` [C, C], true by predicted class; for many classes the most confused pairs."""
    if len(classes) > _MAX_MATRIX_CLASSES:
        errors = counts * (1 - np.eye(len(classes), dtype=counts.dtype))
        order = np.argsort(-errors, axis=None, kind="stable")[:_MAX_PAIRS]
        pairs = [
            divmod(int(flat_index), len(classes)) for flat_index in order if errors.flat[flat_index]
        ]
        total = counts.sum(1)
        return TableItem(
            "confusion",
            "Most confused classes",
            f"Of {len(classes)} classes.",
            head=("truth", "prediction", unit, "share of truth"),
            rows=[
                (classes[i], classes[j], int(errors[i, j]), Percent(errors[i, j] / total[i]))
                for i, j in pairs
            ],
        )
    return HeatMap(
        "confusion",
        "Confusion matrix",
        f"Number of {unit}; darker: a larger share of the row.",
        rows=classes,
        columns=classes,
        values=counts.astype(np.float64),
        intensity=counts / np.maximum(counts.sum(1, keepdims=True), 1),
        row_title="truth",
        column_title="prediction",
    )


def class_score_table(
    true_positives: np.ndarray, truth: np.ndarray, predicted: np.ndarray, classes: Sequence[str]
) -> TableItem:
    """Precision, recall and F1 of each class [C], from counts."""
    precision = true_positives / np.maximum(predicted, 1)
    recall = true_positives / np.maximum(truth, 1)
    columns = zip(
        classes,
        precision.tolist(),
        recall.tolist(),
        f1_score(true_positives, truth, predicted).tolist(),
        truth.astype(int).tolist(),
        strict=True,
    )
    head = ("class", "precision", "recall", "F1", "rows")
    return TableItem("classes", "By class", head=head, rows=[*columns])


def example_tables(
    head: Sequence[str],
    make_line: Callable[[int], Sequence[TableCell]],
    worst: tuple[np.ndarray, str],
    uncertain: tuple[np.ndarray, str] | None,
) -> Iterator[TableItem]:
    """Tables of the worst and the most uncertain rows.

    ``make_line`` returns the cells of a feature. ``worst`` and ``uncertain`` are (scores, note).
    The highest scores come first, and −∞ leaves a feature out.
    """
    kinds = [("worst", "Worst rows", worst)]
    if uncertain is not None:
        kinds.append(("uncertain", "Most uncertain rows", uncertain))
    for name, title, (scores, note) in kinds:
        order = np.argsort(-scores, kind="stable")[:MAX_EXAMPLES]
        rows = [make_line(int(feature)) for feature in order if np.isfinite(scores[feature])]
        if rows:
            yield TableItem(name, title, note, head=head, rows=rows)


def format_row_text(rows: Rows, row: int) -> str:
    """The text of a row, or its pair of texts, clipped for display."""
    names = [name for name in ("text", "text_pair") if name in rows.columns]
    return " ⏐ ".join(clip_text(str(rows.value(name, row))) for name in names)


def format_row_location(rows: Rows, row: int) -> str:
    """The file's name and the line on which a row starts."""
    return str(rows.location(row).rpartition("/")[2])
