"""CMRC 2018's official rules: F1 over the longest common piece, in Chinese character by character.

    units(text)   lower case, its punctuation out; each Chinese character alone, the rest by words
    f1            2·P·R / (P + R),  P = |piece| / |given|,  R = |piece| / |gold|
    exact         the same text, its punctuation out

The piece is a substring: its units stand side by side in both (Cui et al. 2019). Words between
Chinese characters are runs of letters and digits, and every other sign alone, where the official
script asks NLTK; they differ in signs within a word only ("don't").
"""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["exact", "f1", "gold_answers", "longest_common", "units"]

# As the official script lists them; its "……" is a pair and matches no single character.
_SIGNS = "-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』"  # noqa: RUF001
_UNITS = re.compile(r"[一-龥]|[^\W_一-龥]+|[^\s]")
_REMOVED = str.maketrans("", "", _SIGNS)


def units(text: str) -> list[str]:
    """What F1 counts."""
    return _UNITS.findall(_plain(text))


def gold_answers(answers: Sequence[str]) -> list[str]:
    """What a prediction is compared with: [''] of a question without an answer."""
    return list(answers) or [""]


def exact(given: str, golds: Sequence[str]) -> float:
    """1 or 0."""
    return float(any(_plain(gold) == _plain(given) for gold in golds))


def f1(given: str, golds: Sequence[str]) -> float:
    """In [0, 1]; of two empty texts 1, for a question may have no answer here too."""
    answer = units(given)
    return max(_f1(answer, units(gold)) for gold in golds)


def _f1(given: Sequence[str], gold: Sequence[str]) -> float:
    if not given or not gold:
        return float(given == gold)
    same = longest_common(given, gold)
    if same == 0:
        return 0.0
    precision, recall = same / len(given), same / len(gold)
    return 2 * precision * recall / (precision + recall)


def longest_common(one: Sequence[str], other: Sequence[str]) -> int:
    """Length of the longest run that stands in both."""
    longest, before = 0, [0] * (len(other) + 1)
    for unit in one:
        row = [0] * (len(other) + 1)
        for place, each in enumerate(other, start=1):
            if unit == each:
                row[place] = before[place - 1] + 1
                longest = max(longest, row[place])
        before = row
    return longest


def _plain(text: str) -> str:
    return text.lower().strip().translate(_REMOVED)
