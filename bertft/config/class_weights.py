"""Validation of ``loss.class_weights``: ``balanced``, a mapping or a list.

class_weight_problems("ballanced")                   neither balanced nor a mapping or list
class_weight_problems({"pos": -1})                   -1 is not a weight
class_weight_problems({"poss": 2}, ["neg", "pos"])   unknown class: did you mean 'pos'?
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

from bertft.config.values import NUMBER_PATTERN
from bertft.utils.messages import Problem, suggest

__all__ = [
    "BALANCED",
    "class_name_key",
    "class_weight_problems",
    "match_class",
    "normalize_class_name",
]

BALANCED = "balanced"
_SETTING = "loss.class_weights"


def class_weight_problems(weights: Any, names: Sequence[str] | None = None) -> Iterator[Problem]:
    """Problems of ``weights``; ``names`` are the classes, None if they are not known yet."""
    if weights is None or weights == BALANCED:
        return
    if not isinstance(weights, (dict, list)) or not weights:
        yield Problem(
            _SETTING,
            f"invalid class weights {weights!r}",
            "Use balanced, a mapping ('loss.class_weights={<label>: <weight>, ...}'), or a list in"
            " the order of the labels",
        )
        return
    weight_by_class = weights if isinstance(weights, dict) else dict(enumerate(weights))
    keys: dict[object, Any] = {}
    weight_by_name = weights if isinstance(weights, dict) else {}
    for name in weight_by_name:
        first_spelling = keys.setdefault(class_name_key(name), name)
        if first_spelling is not name and weight_by_name[first_spelling] != weight_by_name[name]:
            yield Problem(
                _SETTING,
                f"{first_spelling!r} and {name!r} are the same class with two weights",
                "Set one weight per class",
            )
    invalid_weights = {
        name: weight for name, weight in weight_by_class.items() if not _is_weight(weight)
    }
    for name, weight in invalid_weights.items():
        yield Problem(
            _SETTING, f"the weight {weight!r} of {name} is not valid", "Use a number of at least 0"
        )
    if not invalid_weights and not any(weight_by_class.values()):
        yield Problem(_SETTING, "every weight is 0", "Set at least one weight above 0")
    if names is None:
        return
    if isinstance(weights, list):
        if len(weights) != len(names):
            yield Problem(
                _SETTING,
                f"{len(weights)} weights for {len(names)} classes",
                f"Set one per class, in the order {', '.join(names[:8])}",
            )
        return
    for name in weights:
        if match_class(name, names) is None:
            yield Problem(
                _SETTING,
                f"unknown class {str(name)!r}",
                suggest(name, names),
            )


def match_class(key: Any, names: Sequence[str]) -> str | None:
    """The class that a YAML key names, by text or by number: 1 matches the class 1 or 1.0."""
    text = normalize_class_name(key)
    if text in names:
        return text
    matches = [name for name in names if class_name_key(name) == class_name_key(text)]
    return matches[0] if len(matches) == 1 else None


def class_name_key(name: object) -> Decimal | str:
    """A key that is equal for all spellings of a class name: 1, 1.0 and "1" are the same class."""
    text = normalize_class_name(name)
    return Decimal(text) if NUMBER_PATTERN.fullmatch(text) else text


def normalize_class_name(name: object) -> str:
    """A YAML key as a class name: booleans and whole numbers as JSON writes them."""
    if isinstance(name, bool):
        return str(name).lower()
    if isinstance(name, float) and name.is_integer():
        return str(int(name))
    return str(name).strip()


def _is_weight(value: Any) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and value >= 0
