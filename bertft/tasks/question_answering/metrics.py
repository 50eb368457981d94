"""The metrics of the official scripts, in percent.

    exact, f1                             over all questions
    HasAns_…, NoAns_…                     over questions with and without an answer
    best_exact, best_f1, …_thresh         at the threshold of p(no answer) that maximizes them

If p(no answer) is above the threshold, the prediction is "no answer". The best thresholds are found
as in SQuAD's script, over the questions sorted by p(no answer). This module does not import torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from bertft.config.data import DataConfig
from bertft.data.rows import Rows
from bertft.tasks.question_answering import cmrc_scorer, squad_scorer

__all__ = [
    "SCORERS",
    "Scorer",
    "find_best_threshold",
    "score_answers",
    "score_predictions",
    "summarize_scores",
]


class Scorer(Protocol):
    """The rules of one official script, implemented by a module of this package."""

    def gold_answers(self, answers: Sequence[str]) -> list[str]: ...
    def exact(self, prediction: str, golds: Sequence[str]) -> float: ...
    def f1(self, prediction: str, golds: Sequence[str]) -> float: ...


SCORERS: dict[str, Scorer] = {"squad": squad_scorer, "cmrc2018": cmrc_scorer}


def score_predictions(
    predictions: Sequence[str | None], rows: Rows, config: DataConfig
) -> tuple[dict[str, float], str]:
    """The metrics of ``predictions`` (None scores 0), and the name of the main metric."""
    gold_answers = rows.column("label")
    scores = score_answers([text or "" for text in predictions], gold_answers, config.scorer)
    is_predicted = np.array([text is not None for text in predictions])
    scores = {name: np.where(is_predicted, values, 0.0) for name, values in scores.items()}
    answerable = np.array([bool(answers) for answers in gold_answers])
    return summarize_scores(scores, answerable, config.unanswerable), "f1"


def score_answers(
    predictions: Sequence[str], gold_answers: Sequence[Sequence[str]], scorer: str
) -> dict[str, np.ndarray]:
    """``exact`` and ``f1`` [questions] in [0, 1]; ``gold_answers``: the correct answers of each."""
    rules = SCORERS[scorer]
    pairs = [
        (text, rules.gold_answers(answers))
        for text, answers in zip(predictions, gold_answers, strict=True)
    ]
    return {
        "exact": np.array([rules.exact(*pair) for pair in pairs]),
        "f1": np.array([rules.f1(*pair) for pair in pairs]),
    }


def summarize_scores(
    scores: dict[str, np.ndarray], answerable: np.ndarray, by_answerability: bool
) -> dict[str, float]:
    """Means in percent; ``by_answerability``: also over answerable and unanswerable questions."""
    result = {name: 100.0 * float(values.mean()) for name, values in scores.items()}
    if by_answerability:
        for group, mask in (("HasAns", answerable), ("NoAns", ~answerable)):
            if mask.any():
                for name, values in scores.items():
                    result[f"{group}_{name}"] = 100.0 * float(values[mask].mean())
    return result


def find_best_threshold(
    scores: np.ndarray, answered: np.ndarray, no_answer: np.ndarray, answerable: np.ndarray
) -> tuple[float, float]:
    """(best mean in percent, its threshold).

    ``scores`` [questions]: of the best spans, without a threshold. ``answered``: whether there is a
    span. The threshold starts at 0, where every prediction is "no answer", and rises past one
    question at a time.
    """
    gains = np.where(answerable, scores, -answered.astype(np.float64))
    order = np.argsort(no_answer, kind="stable")
    totals = (~answerable).sum() + np.concatenate([[0.0], np.cumsum(gains[order])])
    best_index = int(np.argmax(totals))  # the first on a tie, as in the official script
    threshold = 0.0 if best_index == 0 else float(no_answer[order[best_index - 1]])
    return 100.0 * float(totals[best_index]) / len(scores), threshold
