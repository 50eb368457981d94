"""Report items of question answering: scores by answerability, example questions."""

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
    """One value per question."""

    rows: np.ndarray
    answers: Sequence[str]  # predicted; "": no answer
    golds: Sequence[Sequence[str]]  # empty: the question has no answer
    scores: dict[str, np.ndarray]  # metric → scores in [0, 1]
    confidence: np.ndarray  # probability of the prediction


def question_report_items(predictions: QuestionPredictions, rows: Rows) -> Iterator[ReportItem]:
    """Scores by answerability, which questions were answered, example questions."""
    is_answerable = np.array([bool(answer) for answer in predictions.golds])
    is_answered = np.array([bool(answer) for answer in predictions.answers])
    groups = [
        ("answerable", is_answerable),
        ("unanswerable", ~is_answerable),
        ("all", is_answerable | ~is_answerable),
    ]
    names = tuple(predictions.scores)
    yield TableItem(
        "answerability",
        "Scores by answerability",
        "In percent, at the threshold of bertft predict.",
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
            "Answered questions",
            "Number of questions. Darker cells are a larger share of their kind of question.",
            rows=("answerable", "unanswerable"),
            columns=("answer", "no answer"),
            values=counts.astype(np.float64),
            intensity=counts / np.maximum(counts.sum(1, keepdims=True), 1),
            row_title="question",
            column_title="prediction",
        )

    def make_line(number: int) -> list[TableCell]:
        row = int(predictions.rows[number])
        gold = next(iter(predictions.golds[number]), "no answer")
        question = clip_text(str(rows.value("question", row)))
        return [
            format_row_location(rows, row),
            question,
            clip_text(gold, 160),
            clip_text(predictions.answers[number], 160) or "no answer",
            100 * float(predictions.scores["f1"][number]),
            float(predictions.confidence[number]),
        ]

    yield from example_tables(
        ("row", "question", "true answer", "predicted answer", "F1", "probability"),
        make_line,
        (
            np.where(predictions.scores["f1"] > 0, -np.inf, predictions.confidence),
            "Answers with an F1 of 0. Highest confidence first.",
        ),
        (-predictions.confidence, "Answers with the lowest probability."),
    )
