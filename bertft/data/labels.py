"""Labels as they stand in the data → the form a task wants, and the names of the classes."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pyarrow as pa

from bertft.config.messages import quote_value
from bertft.config.values import NUMBER_PATTERN
from bertft.data.bad_rows import RowError
from bertft.data.cells import parse_list

__all__ = [
    "LABEL_PARSERS", "LABEL_LIST", "NOT_BINARY", "NOT_NUMERIC", "LabelParser", "to_class_name", "sort_class_names", "parse_number",
    "class_name_as_number", "parse_zero_or_one",
]  # fmt: skip

NOT_NUMERIC = "label is no number"
NOT_BINARY = "label is not 0 or 1"
LABEL_LIST = "label is a list"
LABEL_MAPPING = "label is a mapping"

_ITEM_PATTERN = r"""('([^'\\]|\\.)*'|"([^"\\]|\\.)*"|[+-]?[0-9.]+|true|false|True|False)"""
_ITEMS_PATTERN = rf"{_ITEM_PATTERN}([\s,]+{_ITEM_PATTERN})*[\s,]*"  # what numpy prints has no commas
_LIST_PATTERN = re.compile(
    rf"\[\s*({_ITEMS_PATTERN})?\]"
    rf"|\(\s*({_ITEM_PATTERN}\s*,[\s,]*({_ITEMS_PATTERN})?)?\)"  # (a) alone is a name
    rf"|\{{\s*({_ITEMS_PATTERN})\}}|\{{\s*\}}|set\(\)"
    r"|\[[^][]*,[^][]*\]",  # names without quotes: [a, b]
    re.DOTALL,
)
_MAPPING_PATTERN = re.compile(rf"\{{\s*{_ITEM_PATTERN}\s*:.*\}}", re.DOTALL)
_NUMBER_SET_PATTERN = re.compile(r"\{[\s,0-9.+-]+\}")  # a set does not say what its numbers count


@dataclass(frozen=True)
class LabelParser:
    """How a task's labels are kept: ``arrow_type`` in Arrow, ``parse`` from the fields of one row."""

    arrow_type: pa.DataType
    parse: Callable[[Sequence[Any], str], Any]  # (fields, separator) → label, None if missing


def to_class_name(value: Any) -> str | None:
    """The name of a class: text without the space around it, numbers and booleans as JSON does."""
    if isinstance(value, str):
        return value.strip() or None
    if value is None or isinstance(value, bool):
        return None if value is None else str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if math.isnan(value):
            return None
        if math.isinf(value):
            raise RowError("label is no name", f"the label is {value}, not a finite number")
        return str(int(value)) if value.is_integer() else repr(value)
    raise RowError("label is no name", f"the label is a {type(value).__name__}, not a name or number")


def class_name_as_number(name: str) -> Decimal | None:
    """The number that a class name is: ``1``, ``1.0`` and ``1e0`` are equal; None for a name."""
    return Decimal(name) if NUMBER_PATTERN.fullmatch(name) else None


def _parse_single_label(value: Any) -> str | None:
    """The name of a class. Fault for several of them, in a list, tuple or set, or its text."""
    _reject_mapping(value)
    if isinstance(value, (list, tuple)) or (isinstance(value, str) and _looks_like_list(value)):
        raise RowError(
            LABEL_LIST,
            f"the label {quote_value(value)} is a list; lists of labels are for data.task=multi_label",
        )
    return to_class_name(value)


def _looks_like_list(text: str) -> bool:
    text = text.strip()
    return text.endswith(("]", ")", "}")) and _LIST_PATTERN.fullmatch(text) is not None


def _reject_mapping(value: Any) -> None:
    text = value.strip() if isinstance(value, str) else ""
    if isinstance(value, dict) or (text.endswith("}") and _MAPPING_PATTERN.fullmatch(text)):
        raise RowError(
            LABEL_MAPPING,
            f"the label {quote_value(value)} is a mapping; write the names of the row's classes",
        )


def parse_number(value: Any) -> float | None:
    """A finite number, from a number or its text."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        # Python reads 1_000 as a number; in a file it is the name of something.
        not_a_number = isinstance(value, bool) or (isinstance(value, str) and "_" in value)
        result = math.nan if not_a_number else float(value)
    except (TypeError, ValueError, OverflowError):
        result = math.nan
    if not math.isfinite(result):
        raise RowError(NOT_NUMERIC, f"the label {quote_value(value)} is not a finite number")
    return result


def _parse_multiple_labels(fields: Sequence[Any], separator: str) -> list[str] | None:
    """Names joined by ``separator``, or a list, tuple or set of them, maybe as text; or one value
    that is no text; empty: a row with none.

    A repeated name stays: lists of 0 and 1 are recognised by all rows together.
    """
    value = fields[0]
    if value is None:
        return None
    _reject_mapping(value)
    if isinstance(value, str) and _looks_like_list(value):
        value = _parse_label_list(value.strip())
    if isinstance(value, str):
        value = value.split(separator)
    parts = value if isinstance(value, (list, tuple)) else [value]
    return [name for part in parts if (name := to_class_name(part)) is not None]


def _parse_label_list(text: str) -> list[Any]:
    """A list in JSON's or Python's notation, or a tuple or set of names in Python's."""
    if text == "set()":
        return []
    items = None if _NUMBER_SET_PATTERN.fullmatch(text) else parse_list(f"[{text[1:-1]}]")
    if items is None:
        raise RowError(
            LABEL_LIST, f'the label {quote_value(text)} is no list that can be read; write ["a", "b"]'
        )
    return items


def parse_zero_or_one(value: Any) -> bool:
    """0/1 in any of its writings. Raises Fault for anything else."""
    text = str(value).strip().lower()
    if text in ("1", "1.0", "true"):
        return True
    if text in ("0", "0.0", "false"):
        return False
    raise RowError(NOT_BINARY, f"the label {quote_value(value)} is not 0 or 1")


LABEL_PARSERS = {
    "class": LabelParser(pa.string(), lambda fields, _: _parse_single_label(fields[0])),
    "number": LabelParser(pa.float64(), lambda fields, _: parse_number(fields[0])),
    "classes": LabelParser(pa.list_(pa.string()), _parse_multiple_labels),
}


def sort_class_names(names: Iterable[str]) -> list[str]:
    """Names sorted: as numbers where all of them are, else as text."""
    names = set(names)
    try:
        values = {name: float(name) for name in names}
    except ValueError:
        return sorted(names)
    if not all(map(math.isfinite, values.values())):
        return sorted(names)
    return sorted(names, key=lambda name: (values[name], name))
