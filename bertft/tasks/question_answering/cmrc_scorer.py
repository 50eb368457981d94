"""The official scores of CMRC 2018: F1 over the longest common substring of units.

    units(text)   lower case, without punctuation; one unit per Chinese character or other word
    f1            2·P·R / (P + R),  P = |common| / |predicted|,  R = |common| / |gold|
    exact         equal texts in lower case, without punctuation

The units of the substring are adjacent in both texts (Cui et al. 2019). Words between Chinese
characters are runs of letters and digits, and every other character is a unit of its own. The
official script uses NLTK here, which differs only for punctuation within a word ("don't").
"""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["exact", "f1", "gold_answers", "longest_common_substring", "scoring_units"]

# As the official script lists them; its "……" is a pair and matches no single character.
_PUNCTUATION = "-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』"  # noqa: RUF001
_UNITS = re.compile(r"[一-龥]|[^\W_一-龥]+|[^\s]")
_REMOVED = str.maketrans("", "", _PUNCTUATION)


def scoring_units(text: str) -> list[str]:
    """The units that F1 counts."""
    return _UNITS.findall(_normalize(text))


def gold_answers(answers: Sequence[str]) -> list[str]:
    """The texts that a prediction is compared with; [''] for a question without an answer."""
    return list(answers) or [""]


def exact(prediction: str, golds: Sequence[str]) -> float:
    """1 if the prediction equals a gold answer, else 0."""
    return float(any(_normalize(gold) == _normalize(prediction) for gold in golds))


def f1(prediction: str, golds: Sequence[str]) -> float:
    """The best F1 over ``golds``, in [0, 1]; 1 if both texts are empty."""
    predicted_units = scoring_units(prediction)
    return max(_f1(predicted_units, scoring_units(gold)) for gold in golds)


def _f1(predicted: Sequence[str], gold: Sequence[str]) -> float:
    if not predicted or not gold:
        return float(predicted == gold)
    common = longest_common_substring(predicted, gold)
    if common == 0:
        return 0.0
    precision, recall = common / len(predicted), common / len(gold)
    return 2 * precision * recall / (precision + recall)


def longest_common_substring(units_a: Sequence[str], units_b: Sequence[str]) -> int:
    """Length of the longest substring of units that occurs in both."""
    longest, before = 0, [0] * (len(units_b) + 1)
    for unit in units_a:
        row = [0] * (len(units_b) + 1)
        for position, other_unit in enumerate(units_b, start=1):
            if unit == other_unit:
                row[position] = before[position - 1] + 1
                longest = max(longest, row[position])
        before = row
    return longest


def _normalize(text: str) -> str:
    return text.lower().strip().translate(_REMOVED)
