"""Labels as they stand in the data → the form a task wants, and the names of the classes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from bertft.data.bad_rows import Fault

__all__ = ["FORMS", "NO_NUMBER", "Form", "class_name", "in_order", "number", "zero_or_one"]

NO_NUMBER = "label is no number"


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
        return str(int(value)) if value.is_integer() else repr(value)
    raise Fault("label is no name", f"the label is a {type(value).__name__}, not a name or number")


def number(value: Any) -> float | None:
    """A finite number, from a number or its text."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        result = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        result = math.nan
    if not math.isfinite(result):
        raise Fault(NO_NUMBER, f"the label {_short(value)} is not a finite number")
    return result


def _several(fields: Sequence[Any], separator: str) -> list[str] | None:
    """Names joined by ``separator``, or a JSON list of them; an empty one is a row with none."""
    value = fields[0]
    if value is None:
        return None
    parts = value if isinstance(value, (list, tuple)) else str(value).split(separator)
    names = [name for part in parts if (name := class_name(part)) is not None]
    return list(dict.fromkeys(names))


def zero_or_one(value: Any) -> bool:
    """0/1 in any of its writings. Raises Fault for anything else."""
    text = str(value).strip().lower()
    if text in ("1", "1.0", "true"):
        return True
    if text in ("0", "0.0", "false"):
        return False
    raise Fault("label is not 0 or 1", f"the label {_short(value)} is not 0 or 1")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}…"


FORMS = {
    "classification": Form(pa.string(), lambda fields, _: class_name(fields[0])),
    "regression": Form(pa.float64(), lambda fields, _: number(fields[0])),
    "multi_label": Form(pa.list_(pa.string()), _several),
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
