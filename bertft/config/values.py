"""Validation of single values: type, choices and bounds of a setting."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from omegaconf import BooleanNode, FloatNode, IntegerNode, StringNode
from omegaconf.errors import OmegaConfBaseException

from bertft.config.former_names import rename_settings
from bertft.config.schema import Leaf, Node, find_setting, settings_tree
from bertft.utils.messages import Problem, format_list, suggest

__all__ = [
    "COMMAND_LINE_ONLY",
    "NUMBER_PATTERN",
    "TYPE_NAMES",
    "check_answer_settings",
    "check_recorded_settings",
    "format_bounds",
    "is_deferred",
    "missing_problem",
    "placeholder",
    "value_problems",
]


# Settings of ``data`` that locate rows: a folder from elsewhere cannot set them.
COMMAND_LINE_ONLY = (
    "source",
    "train",
    "validation",
    "unlabelled",
    "test",
    "drop_rows",
    "hub",
    "subset",
    "sample",
    "cache",
)


def check_answer_settings(content: Any) -> dict[str, Any]:
    """Recorded settings of ``data`` on which predictions depend. ValueError for invalid ones."""
    settings = check_recorded_settings("data", content if content is not None else {})
    for name in COMMAND_LINE_ONLY:
        if name in settings:
            raise ValueError(f"data.{name} can only be set on the command line")
    return settings


def check_recorded_settings(node: str, content: Any) -> dict[str, Any]:
    """Recorded settings of the group ``node`` of train. ValueError for invalid ones."""
    group, _ = find_setting(settings_tree("train"), node)
    assert isinstance(group, Node)
    if not isinstance(content, dict):
        raise ValueError(f"{node} is not a group of settings")
    content = rename_settings(group, content)
    for name, value in content.items():
        leaf = group.children.get(name)
        if not isinstance(leaf, Leaf):
            raise ValueError(f"unknown setting {node}.{name}")
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
# Required settings of commands → what to write for them.
_PLACEHOLDERS = {
    "out": "<new or empty folder>",
    "run": "<run folder>",
    "runs": "[<run folder>,<run folder>]",
}
_MAX_PLACEHOLDER_CHOICES = 4
_MAX_COUNT = 2**31  # a larger number of rows, steps, tokens or threads is a mistake
_MAX_SEED = 2**63
_MAX_REAL = 1e30  # products of larger fp32 numbers overflow
# A class name that is a number. With a leading zero (007) it is a text.
NUMBER_PATTERN = re.compile(r"[+-]?(0|[1-9][0-9]*)(\.[0-9]*)?([eE][+-]?[0-9]{1,3})?")
_BOUNDS = {
    "at_least": ("at least", lambda value, bound: value >= bound),
    "above": ("above", lambda value, bound: value > bound),
    "at_most": ("at most", lambda value, bound: value <= bound),
    "below": ("below", lambda value, bound: value < bound),
}


def value_problems(leaf: Leaf, value: Any, where: str | None = None) -> Iterator[Problem]:
    """The problems of ``value`` as a value of ``leaf``; ``where`` defaults to the setting's path.

    Interpolations (``${...}``) and ``???`` are not validated before they are resolved.
    """
    where = where or leaf.path
    if is_deferred(value):
        return
    if value is None:
        if not leaf.optional:
            yield Problem(where, "null is not supported", _expected_value(leaf))
        return
    if leaf.type is not Any:
        if isinstance(value, (dict, list)):
            yield Problem(
                where, f"expected one value, got a {_container_name(value)}", _expected_value(leaf)
            )
            return
        try:
            value = _OMEGACONF_NODES[leaf.type](value)._value()
        except (OmegaConfBaseException, ValueError):
            yield Problem(where, f"{value!r} is not {TYPE_NAMES[leaf.type]}", _expected_value(leaf))
            return
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if leaf.choices is not None and text not in leaf.choices:
        yield Problem(where, f"{value!r} is not a valid value", _choice_hint(value, leaf.choices))
    elif isinstance(value, int) and not -(limit := _integer_limit(leaf)) <= value < limit:
        yield Problem(
            where,
            f"{_format_integer(value)} is out of range",
            f"It must be {format_bounds(leaf, limit)}",
        )
    elif isinstance(value, float) and not math.isfinite(value):
        yield Problem(where, f"{value} is not finite", _expected_value(leaf))
    elif isinstance(value, float) and abs(value) > _MAX_REAL:
        yield Problem(where, f"{value} is out of range", f"It must be at most {_MAX_REAL:g}")
    elif leaf.bounds and not all(
        _BOUNDS[name][1](value, bound) for name, bound in leaf.bounds.items()
    ):
        yield Problem(where, f"{value} is out of range", f"It must be {format_bounds(leaf)}")


def missing_problem(leaf: Leaf) -> Problem:
    """A setting without a default has no value."""
    help_text = "" if leaf.path in _PLACEHOLDERS else f" ({leaf.help.removesuffix('.')})"
    return Problem(leaf.path, "is missing", f"Set {leaf.path}={placeholder(leaf)}{help_text}")


def placeholder(leaf: Leaf) -> str:
    """What to write for a value of ``leaf`` in a message, as in ``<number>``."""
    if leaf.choices is not None and len(leaf.choices) <= _MAX_PLACEHOLDER_CHOICES:
        return f"<{'|'.join(leaf.choices)}>"
    type_name = TYPE_NAMES.get(leaf.type, "value").removeprefix("a ")
    return _PLACEHOLDERS.get(leaf.path, f"<{type_name}>")


def _integer_limit(leaf: Leaf) -> int:
    return _MAX_SEED if leaf.path.rpartition(".")[2] == "seed" else _MAX_COUNT


def _format_integer(value: int) -> str:
    """``value`` in digits, or their number if it is large: Python limits the conversion."""
    length = int(value.bit_length() * math.log10(2)) + 1
    return str(value) if length <= 40 else f"a number of {length} digits"


def is_deferred(value: Any) -> bool:
    """Whether the value is not known yet: an interpolation or a missing value."""
    return isinstance(value, str) and ("${" in value or value == "???")


def format_bounds(leaf: Leaf, limit: int | None = None) -> str:
    """``at least 0 and below 1``; empty if there are no bounds.

    ``limit``: integers are below it, and at least its negative, if the setting has no such bound.
    """
    bounds = [f"{_BOUNDS[name][0]} {bound:g}" for name, bound in leaf.bounds.items()]
    if limit is not None and not leaf.bounds.keys() & {"at_least", "above"}:
        bounds.insert(0, f"at least {-limit:,}")
    if limit is not None and not leaf.bounds.keys() & {"at_most", "below"}:
        bounds.append(f"below {limit:,}")
    return " and ".join(bounds)


def _choice_hint(value: Any, choices: tuple[str, ...]) -> str:
    hint = suggest(value, choices)
    return f"{hint} It can be {format_list(choices)}" if hint.endswith("?") else hint


def _expected_value(leaf: Leaf) -> str:
    type_name = TYPE_NAMES.get(leaf.type, "a value")
    words = [f"one of {format_list(leaf.choices)}" if leaf.choices else type_name]
    if leaf.bounds:
        words.append(format_bounds(leaf))
    if leaf.optional:
        words.append("or null")
    return f"Expected: {' '.join(words)}"


def _container_name(value: Any) -> str:
    return "list" if isinstance(value, list) else "group"
