"""What one value of one setting may be: its type, its choices, its bounds."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from omegaconf import BooleanNode, FloatNode, IntegerNode, StringNode
from omegaconf.errors import OmegaConfBaseException

from bertft.config.former_names import rename_settings
from bertft.config.schema import Leaf, Node, find_setting, settings_tree
from bertft.utils.messages import Problem, did_you_mean, format_list

__all__ = [
    "COMMAND_LINE_ONLY",
    "NUMBER_PATTERN",
    "TYPE_NAMES",
    "check_answer_settings",
    "check_recorded_settings",
    "format_bounds",
    "is_deferred",
    "value_problems",
]


# Settings of ``data`` that say where something is: a folder does not choose them.
COMMAND_LINE_ONLY = (
    "source",
    "train",
    "validation",
    "unlabelled",
    "test",
    "hub",
    "subset",
    "sample",
    "cache",
)


def check_answer_settings(content: Any) -> dict[str, Any]:
    """Settings of ``data`` that the answers of a folder's model depend on. ValueError as below."""
    settings = check_recorded_settings("data", content if content is not None else {})
    for name in COMMAND_LINE_ONLY:
        if name in settings:
            raise ValueError(f"data.{name} comes from the command line alone")
    return settings


def check_recorded_settings(node: str, content: Any) -> dict[str, Any]:
    """Settings of the ``node`` of train's configuration. ValueError for what cannot be one."""
    group, _ = find_setting(settings_tree("train"), node)
    assert isinstance(group, Node)
    if not isinstance(content, dict):
        raise ValueError(f"{node} is no group of settings")
    content = rename_settings(group, content)
    for name, value in content.items():
        leaf = group.children.get(name)
        if not isinstance(leaf, Leaf):
            raise ValueError(f"{node}.{name} is unknown")
        if any(is_deferred(item) for item in (value if isinstance(value, list) else [value])):
            raise ValueError(f"{node}.{name} is not a literal value")
        for problem in value_problems(leaf, value):
            raise ValueError(f"{problem.where} {problem.what}")
        if leaf.type is bool and not isinstance(value, bool):
            raise ValueError(f"{node}.{name} is not true or false")
        if leaf.type in (int, float) and isinstance(value, (str, bool)):
            raise ValueError(f"{node}.{name} is not a number")
    return dict(content)


TYPE_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
_OMEGACONF_NODES: dict[type, Any] = {
    int: IntegerNode,
    float: FloatNode,
    bool: BooleanNode,
    str: StringNode,
}
_MAX_COUNT = (
    2**31
)  # more rows, steps, tokens or threads than that are a slip, and overflow somewhere
_MAX_SEED = 2**63
_MAX_REAL = 1e30  # beyond it, products of fp32 numbers overflow
# A class name that is a number; a leading zero marks a code (007), which is a name.
NUMBER_PATTERN = re.compile(r"[+-]?(0|[1-9][0-9]*)(\.[0-9]*)?([eE][+-]?[0-9]{1,3})?")
_BOUNDS = {
    "at_least": ("at least", lambda value, bound: value >= bound),
    "above": ("above", lambda value, bound: value > bound),
    "at_most": ("at most", lambda value, bound: value <= bound),
    "below": ("below", lambda value, bound: value < bound),
}


def value_problems(leaf: Leaf, value: Any, where: str | None = None) -> Iterator[Problem]:
    """What is wrong with ``value`` for ``leaf``; ``where`` defaults to the setting's path.

    Interpolations (``${...}``) and ``???`` are not judged before they are resolved.
    """
    where = where or leaf.path
    if is_deferred(value):
        return
    if value is None:
        if not leaf.optional:
            yield Problem(where, "null is not a value here", _expected_value(leaf))
        return
    if leaf.type is not Any:
        if isinstance(value, (dict, list)):
            yield Problem(
                where, f"is one value, not a {_container_name(value)}", _expected_value(leaf)
            )
            return
        try:
            value = _OMEGACONF_NODES[leaf.type](value)._value()
        except (OmegaConfBaseException, ValueError):
            yield Problem(where, f"{value!r} is not {TYPE_NAMES[leaf.type]}", _expected_value(leaf))
            return
    if leaf.choices is not None and str(value) not in leaf.choices:
        yield Problem(where, f"{value!r} is no choice", _choice_hint(value, leaf.choices))
    elif isinstance(value, int) and not -(limit := _integer_limit(leaf)) <= value < limit:
        yield Problem(
            where, f"{_format_integer(value)} is out of range", f"It must be less than {limit:,}"
        )
    elif isinstance(value, float) and not math.isfinite(value):
        yield Problem(where, f"{value} is not finite", _expected_value(leaf))
    elif isinstance(value, float) and abs(value) > _MAX_REAL:
        yield Problem(where, f"{value} is out of range", f"It must be at most {_MAX_REAL:g}")
    elif leaf.bounds and not all(
        _BOUNDS[name][1](value, bound) for name, bound in leaf.bounds.items()
    ):
        yield Problem(where, f"{value} is out of range", f"It must be {format_bounds(leaf)}")


def _integer_limit(leaf: Leaf) -> int:
    return _MAX_SEED if leaf.path.rpartition(".")[2] == "seed" else _MAX_COUNT


def _format_integer(value: int) -> str:
    """The digits of ``value``, or how many there are: Python refuses to print a very long one."""
    length = int(value.bit_length() * math.log10(2)) + 1
    return str(value) if length <= 40 else f"a number of {length} digits"


def is_deferred(value: Any) -> bool:
    """Whether ``value`` is known only later: an interpolation, or still missing."""
    return isinstance(value, str) and ("${" in value or value == "???")


def format_bounds(leaf: Leaf) -> str:
    """``at least 0 and below 1``; empty where there are none."""
    return " and ".join(f"{_BOUNDS[name][0]} {bound:g}" for name, bound in leaf.bounds.items())


def _choice_hint(value: Any, choices: tuple[str, ...]) -> str:
    hint = did_you_mean(value, choices)
    if hint.startswith("one of"):
        return f"O{hint[1:]}"
    return f"D{hint[1:]} It can be {format_list(choices)}"


def _expected_value(leaf: Leaf) -> str:
    words = [
        f"one of {format_list(leaf.choices)}"
        if leaf.choices
        else TYPE_NAMES.get(leaf.type, "a value")
    ]
    if leaf.bounds:
        words.append(format_bounds(leaf))
    if leaf.optional:
        words.append("or null")
    return f"It takes {' '.join(words)}"


def _container_name(value: Any) -> str:
    return "list" if isinstance(value, list) else "group"
