"""Class weights as they are asked for, ``balanced``, a mapping or a list: what is wrong with them.

problems("ballanced")                          no kind of weights
problems({"pos": -1})                          no weight
problems({"poss": 2}, ["neg", "pos"])          no class: did you mean 'pos'?
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

from bertft.config.messages import Problem, suggestion
from bertft.config.values import NUMERIC

__all__ = ["BALANCED", "class_key", "class_of", "problems"]

BALANCED = "balanced"
_WHERE = "loss.class_weights"


def problems(asked: Any, names: Sequence[str] | None = None) -> Iterator[Problem]:
    """Of weights that are not null; ``names`` None: the classes are not known yet."""
    if asked is None or asked == BALANCED:
        return
    if not isinstance(asked, (dict, list)) or not asked:
        yield Problem(
            _WHERE, f"{asked!r} is no weights",
            "Take balanced, {label: weight}, or a list in the order of the labels",
        )  # fmt: skip
        return
    named = asked if isinstance(asked, dict) else dict(enumerate(asked))
    keys: dict[object, Any] = {}
    by_name = asked if isinstance(asked, dict) else {}
    for name in by_name:
        same = keys.setdefault(_identity(class_key(name)), name)
        if same is not name and by_name[same] != by_name[name]:
            yield Problem(
                _WHERE, f"{same!r} and {name!r} are one class with two weights",
                "Give each class one weight",
            )  # fmt: skip
    wrong = {name: each for name, each in named.items() if not _is_weight(each)}
    for name, each in wrong.items():
        yield Problem(_WHERE, f"{each!r} of {name} is no weight", "Give a number of at least 0")
    if not wrong and not any(named.values()):
        yield Problem(_WHERE, "every weight is 0: nothing would be learnt", "Raise one")
    if names is None:
        return
    if isinstance(asked, list):
        if len(asked) != len(names):
            yield Problem(
                _WHERE, f"{len(asked)} weights of {len(names)} classes",
                f"Give one each, in the order {', '.join(names[:8])}",
            )  # fmt: skip
        return
    for name in asked:
        if class_of(name, names) is None:
            yield Problem(
                _WHERE, f"{str(name)!r} is none of the {len(names)} classes",
                suggestion(name, names),
            )  # fmt: skip


def class_of(key: Any, names: Sequence[str]) -> str | None:
    """The class that a key of YAML names, by its text or number: 1 is the class 1 or 1.0."""
    text = class_key(key)
    if text in names:
        return text
    same = [name for name in names if _identity(name) == _identity(text)]
    return same[0] if len(same) == 1 else None


def _identity(name: str) -> Decimal | str:
    return Decimal(name) if NUMERIC.fullmatch(name) else name


def class_key(name: Any) -> str:
    """A key of YAML as the name of a class: booleans and whole numbers as JSON writes them."""
    if isinstance(name, bool):
        return str(name).lower()
    if isinstance(name, float) and name.is_integer():
        return str(int(name))
    return str(name).strip()


def _is_weight(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value) and value >= 0
