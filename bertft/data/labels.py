"""Labels as they stand in the data → the form a task wants, and the names of the classes."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pyarrow as pa

from bertft.config.messages import quoted
from bertft.config.values import NUMERIC
from bertft.data.bad_rows import Fault
from bertft.data.cells import listed

__all__ = [
    "FORMS", "LABEL_LIST", "NOT_BINARY", "NO_NUMBER", "Form", "class_name", "in_order", "number",
    "numeric", "zero_or_one",
]  # fmt: skip

NO_NUMBER = "label is no number"
NOT_BINARY = "label is not 0 or 1"
LABEL_LIST = "label is a list"
LABEL_MAPPING = "label is a mapping"

_ITEM = r"""('([^'\\]|\\.)*'|"([^"\\]|\\.)*"|[+-]?[0-9.]+|true|false|True|False)"""
_ITEMS = rf"{_ITEM}([\s,]+{_ITEM})*[\s,]*"  # what numpy prints has no commas
_LISTED = re.compile(
    rf"\[\s*({_ITEMS})?\]"
    rf"|\(\s*({_ITEM}\s*,[\s,]*({_ITEMS})?)?\)"  # (a) alone is a name
    rf"|\{{\s*({_ITEMS})\}}|\{{\s*\}}|set\(\)"
    r"|\[[^][]*,[^][]*\]",  # names without quotes: [a, b]
    re.DOTALL,
)
_MAPPED = re.compile(rf"\{{\s*{_ITEM}\s*:.*\}}", re.DOTALL)
_NUMBERS = re.compile(r"\{[\s,0-9.+-]+\}")  # a set does not say what its numbers count


@dataclass(frozen=True)
class Form:
    """How a task's labels are kept: ``kind`` in Arrow, ``parse`` from the fields of one row."""

    kind: pa.DataType
    parse: Callable[[Sequence[Any], str], Any]  # (fields, separator) → label, None if missing


def class_name(value: Any) -> str | None:
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
            raise Fault("label is no name", f"the label is {value}, not a finite number")
        return str(int(value)) if value.is_integer() else repr(value)
    raise Fault("label is no name", f"the label is a {type(value).__name__}, not a name or number")


def numeric(name: str) -> Decimal | None:
    """The number that a class name is: ``1``, ``1.0`` and ``1e0`` are equal; None for a name."""
    return Decimal(name) if NUMERIC.fullmatch(name) else None


def _one(value: Any) -> str | None:
    """The name of a class. Fault for several of them, in a list, tuple or set, or its text."""
    _refuse_mapping(value)
    if isinstance(value, (list, tuple)) or (isinstance(value, str) and _is_list(value)):
        raise Fault(
            LABEL_LIST,
            f"the label {quoted(value)} is a list; lists of labels are for data.task=multi_label",
        )
    return class_name(value)


def _is_list(text: str) -> bool:
    text = text.strip()
    return text.endswith(("]", ")", "}")) and _LISTED.fullmatch(text) is not None


def _refuse_mapping(value: Any) -> None:
    text = value.strip() if isinstance(value, str) else ""
    if isinstance(value, dict) or (text.endswith("}") and _MAPPED.fullmatch(text)):
        raise Fault(
            LABEL_MAPPING,
            f"the label {quoted(value)} is a mapping; write the names of the row's classes",
        )


def number(value: Any) -> float | None:
    """A finite number, from a number or its text."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        # Python reads 1_000 as a number; in a file it is the name of something.
        other = isinstance(value, bool) or (isinstance(value, str) and "_" in value)
        result = math.nan if other else float(value)
    except (TypeError, ValueError, OverflowError):
        result = math.nan
    if not math.isfinite(result):
        raise Fault(NO_NUMBER, f"the label {quoted(value)} is not a finite number")
    return result


def _several(fields: Sequence[Any], separator: str) -> list[str] | None:
    """Names joined by ``separator``, or a list, tuple or set of them, maybe as text; or one value
    that is no text; empty: a row with none.

    A repeated name stays: lists of 0 and 1 are recognised by all rows together.
    """
    value = fields[0]
    if value is None:
        return None
    _refuse_mapping(value)
    if isinstance(value, str) and _is_list(value):
        value = _read_list(value.strip())
    if isinstance(value, str):
        value = value.split(separator)
    parts = value if isinstance(value, (list, tuple)) else [value]
    return [name for part in parts if (name := class_name(part)) is not None]


def _read_list(text: str) -> list[Any]:
    """A list in JSON's or Python's notation, or a tuple or set of names in Python's."""
    if text == "set()":
        return []
    found = None if _NUMBERS.fullmatch(text) else listed(f"[{text[1:-1]}]")
    if found is None:
        raise Fault(
            LABEL_LIST, f'the label {quoted(text)} is no list that can be read; write ["a", "b"]'
        )
    return found


def zero_or_one(value: Any) -> bool:
    """0/1 in any of its writings. Raises Fault for anything else."""
    text = str(value).strip().lower()
    if text in ("1", "1.0", "true"):
        return True
    if text in ("0", "0.0", "false"):
        return False
    raise Fault(NOT_BINARY, f"the label {quoted(value)} is not 0 or 1")


FORMS = {
    "class": Form(pa.string(), lambda fields, _: _one(fields[0])),
    "number": Form(pa.float64(), lambda fields, _: number(fields[0])),
    "classes": Form(pa.list_(pa.string()), _several),
}


def in_order(names: Iterable[str]) -> list[str]:
    """Names sorted: as numbers where all of them are, else as text."""
    names = set(names)
    try:
        values = {name: float(name) for name in names}
    except ValueError:
        return sorted(names)
    if not all(map(math.isfinite, values.values())):
        return sorted(names)
    return sorted(names, key=lambda name: (values[name], name))
