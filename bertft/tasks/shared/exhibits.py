"""What tasks show of their answers: a confusion matrix, scores by class, rows to look at.

Rows to look at are the worst (answered wrongly, and surest of it) and the most uncertain: the
former show what labels or model have wrong, the latter where a label more would tell most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from bertft.runs.exhibits import Cell, Exhibit, Grid, Share, Table, clipped
from bertft.tasks.shared.agreement import f1

__all__ = ["SHOWN", "class_scores", "confusions", "rows_to_look_at", "text_of", "where"]

SHOWN = 10  # rows of each kind
_MOST = 16  # classes that a matrix has room for
_PAIRS = 20


def confusions(counts: np.ndarray, classes: Sequence[str], unit: str = "rows") -> Exhibit:
    """``counts`` [C, C], true class by given class; of many classes the pairs most confused."""
    if len(classes) > _MOST:
        wrong = counts * (1 - np.eye(len(classes), dtype=counts.dtype))
        order = np.argsort(-wrong, axis=None, kind="stable")[:_PAIRS]
        pairs = [divmod(int(each), len(classes)) for each in order if wrong.flat[each]]
        total = counts.sum(1)
        return Table(
            "confusion", "Most confused classes", f"Of {len(classes)} classes.",
            head=("truth", "answer", unit, "of the truth"),
            rows=[
                (classes[i], classes[j], int(wrong[i, j]), Share(wrong[i, j] / total[i]))
                for i, j in pairs
            ],
        )  # fmt: skip
    return Grid(
        "confusion", "Confusion matrix", f"{unit.capitalize()}; the darker, the more of a line.",
        rows=classes, columns=classes, values=counts.astype(np.float64),
        shade=counts / np.maximum(counts.sum(1, keepdims=True), 1),
        row_title="truth", column_title="answer",
    )  # fmt: skip


def class_scores(
    both: np.ndarray, truth: np.ndarray, given: np.ndarray, classes: Sequence[str]
) -> Table:
    """Precision, recall and F1 of each class [C], from counts."""
    precision = both / np.maximum(given, 1)
    recall = both / np.maximum(truth, 1)
    columns = zip(
        classes, precision.tolist(), recall.tolist(), f1(both, truth, given).tolist(),
        truth.astype(int).tolist(), strict=True,
    )  # fmt: skip
    head = ("class", "precision", "recall", "F1", "rows")
    return Table("classes", "By class", head=head, rows=[*columns])


def rows_to_look_at(
    head: Sequence[str],
    line: Callable[[int], Sequence[Cell]],
    worst: tuple[np.ndarray, str],
    uncertain: tuple[np.ndarray, str] | None,
) -> Iterator[Table]:
    """``line`` tells of the row with this place; ``worst`` and ``uncertain`` are (scores, note).

    The greatest scores come first; −∞ leaves a row out.
    """
    kinds = [("worst", "Worst rows", worst)]
    if uncertain is not None:
        kinds.append(("uncertain", "Most uncertain rows", uncertain))
    for name, title, (scores, note) in kinds:
        order = np.argsort(-scores, kind="stable")[:SHOWN]
        rows = [line(int(each)) for each in order if np.isfinite(scores[each])]
        if rows:
            yield Table(name, title, note, head=head, rows=rows)


def text_of(rows: Any, row: int) -> str:
    """The text of a row, and its second one, as they can be shown."""
    names = [name for name in ("text", "text_pair") if name in rows.columns]
    return " ⏐ ".join(clipped(str(rows.cell(name, row))) for name in names)


def where(rows: Any, row: int) -> str:
    """The file's name and the line on which a row starts."""
    return str(rows.where(row).rpartition("/")[2])
