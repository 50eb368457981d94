"""Report items that tasks share: confusion matrix, scores per class, example rows.

Example rows are the worst predictions (wrong, with the highest confidence), which reveal wrong
labels and weaknesses of the model, and the most uncertain of the other rows, which are the most
useful to label.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from bertft.data.rows import Rows
from bertft.tasks.report_items import HeatMap, Percent, ReportItem, TableCell, TableItem, clip_text
from bertft.tasks.shared.metrics import f1_score

__all__ = [
    "MAX_EXAMPLES",
    "NOTHING_LEARNED_ADVICE",
    "class_score_table",
    "confusion_item",
    "example_tables",
    "format_row_location",
    "format_row_text",
]

NOTHING_LEARNED_ADVICE = (
    "The predictions do not depend on the texts. Look at the training loss: if it hardly fell,"
    " raise the learning rate or the number of steps; if it rose or jumped, lower the learning"
    " rate. Also check data.text and data.label"
)
MAX_EXAMPLES = 10  # rows per table
_MAX_MATRIX_CLASSES = 16  # more classes do not fit into a heat map
_MAX_PAIRS = 20  # most confused pairs of classes


def confusion_item(counts: np.ndarray, classes: Sequence[str], unit: str = "rows") -> ReportItem:
    """The confusion matrix ``counts`` [C, C]: true class × predicted class.

    With many classes, a table of the most confused pairs. ``unit``: what is counted.
    """
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
            f"The {len(pairs)} most frequent errors among {len(classes)} classes.",
            head=("true class", "predicted class", unit, "share of true class"),
            rows=[
                (classes[i], classes[j], int(errors[i, j]), Percent(errors[i, j] / total[i]))
                for i, j in pairs
            ],
        )
    return HeatMap(
        "confusion",
        "Confusion matrix",
        f"Number of {unit}. Darker cells are a larger share of the true class.",
        rows=classes,
        columns=classes,
        values=counts.astype(np.float64),
        intensity=counts / np.maximum(counts.sum(1, keepdims=True), 1),
        row_title="true class",
        column_title="predicted class",
    )


def class_score_table(
    true_positives: np.ndarray,
    truth: np.ndarray,
    predicted: np.ndarray,
    classes: Sequence[str],
    more: Mapping[str, Sequence[float]] | None = None,
) -> TableItem:
    """Precision, recall and F1 per class, from counts [C].

    Args:
        truth: rows that have the class.
        predicted: rows for which it is predicted.
        more: further columns, [C] each.
    """
    precision = true_positives / np.maximum(predicted, 1)
    recall = true_positives / np.maximum(truth, 1)
    columns = zip(
        classes,
        precision.tolist(),
        recall.tolist(),
        f1_score(true_positives, truth, predicted).tolist(),
        *(more or {}).values(),
        truth.astype(int).tolist(),
        strict=True,
    )
    head = ("class", "precision", "recall", "F1", *(more or {}), "rows")
    return TableItem("classes", "Scores per class", head=head, rows=[*columns])


def example_tables(
    head: Sequence[str],
    make_line: Callable[[int], Sequence[TableCell]],
    worst: tuple[np.ndarray, str],
    uncertain: tuple[np.ndarray, str] | None,
) -> Iterator[TableItem]:
    """Tables of the worst and the most uncertain predictions. No row is in both.

    Args:
        make_line: returns the cells of a feature.
        worst: (scores, note). Features with the highest scores come first; −∞ excludes a feature.
        uncertain: likewise; None: without this table.
    """
    kinds = [("worst", "Confident errors" if uncertain else "Largest errors", worst)]
    if uncertain is not None:
        kinds.append(("uncertain", "Most uncertain predictions", uncertain))
    shown: list[int] = []
    for name, title, (scores, note) in kinds:
        order = np.argsort(-scores, kind="stable")[: MAX_EXAMPLES + len(shown)]
        features = [
            int(feature)
            for feature in order
            if np.isfinite(scores[feature]) and int(feature) not in shown
        ][:MAX_EXAMPLES]
        if features:
            yield TableItem(name, title, note, head=head, rows=[*map(make_line, features)])
        shown += features


def format_row_text(rows: Rows, row: int, columns: Sequence[str] = ("text", "text_pair")) -> str:
    """The text of a row, and its second text if there is one, clipped.

    ``columns``: those with the texts. Columns that the rows do not have are left out.
    """
    names = [name for name in columns if name in rows.columns]
    return " ⏐ ".join(clip_text(str(rows.value(name, row))) for name in names)


def format_row_location(rows: Rows, row: int) -> str:
    """The file name of a row and the line on which the row starts."""
    return str(rows.location(row).rpartition("/")[2])
