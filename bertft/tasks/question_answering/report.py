"""What is shown of answered questions: scores by answerability, questions to look at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bertft.data.rows import Rows
from bertft.tasks.report_items import HeatMap, ReportItem, TableCell, TableItem, clip_text
from bertft.tasks.shared.report import example_tables, format_row_location

__all__ = ["QuestionPredictions", "question_report_items"]


@dataclass(frozen=True)
class QuestionPredictions:
    """By question: its row, its answer ("": none), the gold ones, scores in [0, 1], p(answer)."""

    rows: np.ndarray
    answers: Sequence[str]
    golds: Sequence[Sequence[str]]
    scores: dict[str, np.ndarray]
    confidence: np.ndarray


def question_report_items(predictions: QuestionPredictions, rows: Rows) -> Iterator[ReportItem]:
    """Scores by answerability, what was answered at all, questions to look at."""
    is_answerable = np.array([bool(answer) for answer in predictions.golds])
    is_answered = np.array([bool(each) for each in predictions.answers])
    groups = [
        ("with an answer", is_answerable),
        ("without one", ~is_answerable),
        ("all", is_answerable | ~is_answerable),
    ]
    names = tuple(predictions.scores)
    yield TableItem(
        "answerability",
        "By answerability",
        "In percent, at the threshold that predict uses.",
        head=("questions", "number", *names),
        rows=[
            (
                group,
                int(mask.sum()),
                *(100 * float(predictions.scores[n][mask].mean()) for n in names),
            )
            for group, mask in groups
            if mask.any()
        ],
        strong=(int(is_answerable.any()) + int((~is_answerable).any()),),
    )
    if (~is_answerable).any():
        counts = np.array(
            [
                [(a & b).sum() for b in (is_answered, ~is_answered)]
                for a in (is_answerable, ~is_answerable)
            ]
        )
        yield HeatMap(
            "answered",
            "Answered or not",
            "Questions; the darker, the more of a line.",
            rows=("has an answer", "has none"),
            columns=("answered", "held back"),
            values=counts.astype(np.float64),
            intensity=counts / np.maximum(counts.sum(1, keepdims=True), 1),
            row_title="truth",
            column_title="model",
        )

    def line(place: int) -> list[TableCell]:
        row = int(predictions.rows[place])
        gold = next(iter(predictions.golds[place]), "no answer")
        question = clip_text(str(rows.value("question", row)))
        return [
            format_row_location(rows, row),
            question,
            clip_text(gold, 160),
            clip_text(predictions.answers[place], 160) or "no answer",
            100 * float(predictions.scores["f1"][place]),
            float(predictions.confidence[place]),
        ]

    yield from example_tables(
        ("row", "question", "truth", "answer", "F1", "p"),
        line,
        (
            np.where(predictions.scores["f1"] > 0, -np.inf, predictions.confidence),
            "Nothing of the answer is right, the surest first.",
        ),
        (-predictions.confidence, "The likeliest answer is least likely."),
    )
