"""What is shown of answered questions: scores by answerability, questions to look at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bertft.runs.exhibits import Cell, Exhibit, Grid, Table, clipped
from bertft.tasks.shared.exhibits import rows_to_look_at, where

__all__ = ["Answered", "exhibits"]


@dataclass(frozen=True)
class Answered:
    """By question: its row, its answer ("": none), the gold ones, scores in [0, 1], p(answer)."""

    rows: np.ndarray
    answers: Sequence[str]
    golds: Sequence[Sequence[str]]
    scores: dict[str, np.ndarray]
    sure: np.ndarray


def exhibits(answered: Answered, rows: Any) -> Iterator[Exhibit]:
    """Scores by answerability, what was answered at all, questions to look at."""
    there = np.array([bool(each) for each in answered.golds])
    given = np.array([bool(each) for each in answered.answers])
    groups = [("with an answer", there), ("without one", ~there), ("all", there | ~there)]
    names = tuple(answered.scores)
    yield Table(
        "answerability", "By answerability", "In percent, at the threshold that predict uses.",
        head=("questions", "number", *names),
        rows=[
            (group, int(mask.sum()), *(100 * float(answered.scores[n][mask].mean()) for n in names))
            for group, mask in groups
            if mask.any()
        ],
        strong=(int(there.any()) + int((~there).any()),),
    )  # fmt: skip
    if (~there).any():
        counts = np.array([[(a & b).sum() for b in (given, ~given)] for a in (there, ~there)])
        yield Grid(
            "answered", "Answered or not", "Questions; the darker, the more of a line.",
            rows=("has an answer", "has none"), columns=("answered", "held back"),
            values=counts.astype(np.float64),
            shade=counts / np.maximum(counts.sum(1, keepdims=True), 1),
            row_title="truth", column_title="model",
        )  # fmt: skip

    def line(place: int) -> list[Cell]:
        row = int(answered.rows[place])
        gold = next(iter(answered.golds[place]), "no answer")
        question = clipped(str(rows.cell("question", row)))
        return [
            where(rows, row), question, clipped(gold, 160),
            clipped(answered.answers[place], 160) or "no answer",
            100 * float(answered.scores["f1"][place]), float(answered.sure[place]),
        ]  # fmt: skip

    yield from rows_to_look_at(
        ("row", "question", "truth", "answer", "F1", "p"),
        line,
        (
            np.where(answered.scores["f1"] > 0, -np.inf, answered.sure),
            "Nothing of the answer is right, the surest first.",
        ),
        (-answered.sure, "The likeliest answer is least likely."),
    )
