"""Report of question answering: scores by answerability, example questions."""

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
    """Per question: row, predicted answer ("": none), gold answers, scores in [0, 1], p(answer)."""

    rows: np.ndarray
    answers: Sequence[str]
    golds: Sequence[Sequence[str]]
    scores: dict[str, np.ndarray]
    confidence: np.ndarray


def question_report_items(predictions: QuestionPredictions, rows: Rows) -> Iterator[ReportItem]:
    """Scores by answerability, counts of answered questions, example questions."""
    is_answerable = np.array([bool(answers) for answers in predictions.golds])
    is_answered = np.array([bool(answer) for answer in predictions.answers])
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
        head=("questions", "count", *names),
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
            "Number of questions; darker: a larger share of the row.",
            rows=("has an answer", "has none"),
            columns=("answered", "no answer"),
            values=counts.astype(np.float64),
            intensity=counts / np.maximum(counts.sum(1, keepdims=True), 1),
            row_title="truth",
            column_title="model",
        )

    def line(index: int) -> list[TableCell]:
        row = int(predictions.rows[index])
        gold = next(iter(predictions.golds[index]), "no answer")
        question = clip_text(str(rows.value("question", row)))
        return [
            format_row_location(rows, row),
            question,
            clip_text(gold, 160),
            clip_text(predictions.answers[index], 160) or "no answer",
            100 * float(predictions.scores["f1"][index]),
            float(predictions.confidence[index]),
        ]

    yield from example_tables(
        ("row", "question", "truth", "prediction", "F1", "p"),
        line,
        (
            np.where(predictions.scores["f1"] > 0, -np.inf, predictions.confidence),
            "Answers with F1 = 0, the most confident first.",
        ),
        (-predictions.confidence, "Predictions with the lowest probability."),
    )
