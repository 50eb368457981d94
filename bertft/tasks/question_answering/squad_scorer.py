"""The official scores of SQuAD: exact match and word F1 (Rajpurkar et al. 2018).

    normal(text)  lower case; without ASCII punctuation and the articles a, an, the; single spaces
    exact         normal(predicted) = normal(gold)
    f1            2·P·R / (P + R) over the bags of words; 1 if both texts are empty, 0 if one is

The score is the maximum over the gold answers; gold answers that are empty after normalization are
left out.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

__all__ = ["exact", "f1", "gold_answers", "normalize_answer"]

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalize_answer(text: str) -> str:
    """The text that is compared."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def gold_answers(answers: Sequence[str]) -> list[str]:
    """The texts that a prediction is compared with; [''] for a question without an answer."""
    return [answer for answer in answers if normalize_answer(answer)] or [""]


def exact(prediction: str, golds: Sequence[str]) -> float:
    """1 if the prediction equals a gold answer, else 0."""
    normalized = normalize_answer(prediction)
    return float(any(normalize_answer(gold) == normalized for gold in golds))


def f1(prediction: str, golds: Sequence[str]) -> float:
    """The best F1 over ``golds``, in [0, 1]."""
    words = normalize_answer(prediction).split()
    return max(_f1(words, normalize_answer(gold).split()) for gold in golds)


def _f1(predicted: Sequence[str], gold: Sequence[str]) -> float:
    if not predicted or not gold:
        return float(predicted == gold)
    common = sum((Counter(predicted) & Counter(gold)).values())
    if common == 0:
        return 0.0
    precision, recall = common / len(predicted), common / len(gold)
    return 2 * precision * recall / (precision + recall)
