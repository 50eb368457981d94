"""SQuAD's official rules: exact match and F1 of words, after normalising (Rajpurkar et al. 2018).

    normal(text)  lower case; ASCII punctuation and the articles a, an, the out; single spaces
    exact         normal(given) = normal(gold)
    f1            2·P·R / (P + R) over the bags of words; of two empty texts 1, of one 0

Of several gold answers the best counts; gold answers that are nothing after normalising count as
no answer.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

__all__ = ["exact", "f1", "gold_answers", "normal"]

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def normal(text: str) -> str:
    """The text as it is compared."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def gold_answers(answers: Sequence[str]) -> list[str]:
    """What a prediction is compared with: [''] of a question without an answer."""
    return [each for each in answers if normal(each)] or [""]


def exact(given: str, golds: Sequence[str]) -> float:
    """1 or 0."""
    answer = normal(given)
    return float(any(normal(gold) == answer for gold in golds))


def f1(given: str, golds: Sequence[str]) -> float:
    """In [0, 1]."""
    words = normal(given).split()
    return max(_f1(words, normal(gold).split()) for gold in golds)


def _f1(given: Sequence[str], gold: Sequence[str]) -> float:
    if not given or not gold:
        return float(given == gold)
    same = sum((Counter(given) & Counter(gold)).values())
    if same == 0:
        return 0.0
    precision, recall = same / len(given), same / len(gold)
    return 2 * precision * recall / (precision + recall)
