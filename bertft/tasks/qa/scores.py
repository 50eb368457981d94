"""The official summary of many questions, in percent.

    exact, f1                             over all questions
    HasAns_…, NoAns_…                     over those with and without an answer
    best_exact, best_f1, …_thresh         at the threshold of p(no answer) that suits them best

A question whose p(no answer) is above a threshold gets no answer; the best thresholds are found
as SQuAD's script does, over the questions in the order of their p(no answer). No torch here.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

import numpy as np

from bertft.tasks.qa import cmrc, squad

__all__ = ["SCORERS", "at_best_threshold", "score_each", "summary"]

SCORERS: dict[str, ModuleType] = {"squad": squad, "cmrc2018": cmrc}


def score_each(
    given: Sequence[str], answers: Sequence[Sequence[str]], scorer: str
) -> dict[str, np.ndarray]:
    """``exact`` and ``f1`` [questions] in [0, 1]; ``answers`` are each question's gold ones."""
    rules = SCORERS[scorer]
    golds = [rules.gold_answers(each) for each in answers]
    return {
        name: np.array([getattr(rules, name)(*each) for each in zip(given, golds, strict=True)])
        for name in ("exact", "f1")
    }


def summary(scores: dict[str, np.ndarray], answerable: np.ndarray, split: bool) -> dict[str, float]:
    """Means in percent; ``split``: also over the answerable ones and the others, where any are."""
    result = {name: 100.0 * float(values.mean()) for name, values in scores.items()}
    if split:
        for group, mask in (("HasAns", answerable), ("NoAns", ~answerable)):
            if mask.any():
                for name, values in scores.items():
                    result[f"{group}_{name}"] = 100.0 * float(values[mask].mean())
    return result


def at_best_threshold(
    scores: np.ndarray, answered: np.ndarray, no_answer: np.ndarray, answerable: np.ndarray
) -> tuple[float, float]:
    """(best mean in percent, its threshold).

    ``scores`` [questions] of the best spans, none held back; ``answered``: there is a span.
    The threshold starts at 0, where nothing is answered, and rises past one question at a time.
    """
    gain = np.where(answerable, scores, -answered.astype(np.float64))
    order = np.argsort(no_answer, kind="stable")
    reached = (~answerable).sum() + np.concatenate([[0.0], np.cumsum(gain[order])])
    place = int(np.argmax(reached))  # the first of equals, as the official script keeps it
    threshold = 0.0 if place == 0 else float(no_answer[order[place - 1]])
    return 100.0 * float(reached[place]) / len(scores), threshold
