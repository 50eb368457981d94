"""Labels as they stand in the data → the form a task wants, and the names of the classes."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertft.config.values import NUMBER_PATTERN
from bertft.data.rows import BadRows, RowError
from bertft.data.schema import parse_list
from bertft.errors import DataError
from bertft.utils.messages import format_list, quote_value

if TYPE_CHECKING:
    from bertft.data.schema import RowSchema

__all__ = [
    "LABEL_LIST",
    "LABEL_PARSERS",
    "NOT_BINARY",
    "NOT_NUMERIC",
    "LabelParser",
    "check_enough_rows",
    "check_label_kind",
    "check_label_separator",
    "class_name_as_number",
    "drop_rows",
    "find_joined_names",
    "parse_number",
    "parse_zero_or_one",
    "records_to_batches",
    "records_to_table",
    "sort_class_names",
    "to_class_name",
]


_CHUNK_ROWS = 65_536
_SEPARATORS = ("|", ";", ",", "\t", "/", "+", "&")
_MIN_ROWS_TO_JUDGE = 20  # rows from which on their number is held against the number of classes


def records_to_table(
    records: Iterable[tuple[int, Sequence[Any]]], schema: RowSchema, split: str, bad: BadRows
) -> pa.Table:
    """The records that can be used, as the table of ``Rows``; the others go to ``bad``.

    A missing label is null here, for a whole split may have none.
    """
    return pa.Table.from_batches(
        list(records_to_batches(records, schema, split, bad)), schema.arrow_schema
    )


def records_to_batches(
    records: Iterable[tuple[int, Sequence[Any]]], schema: RowSchema, split: str, bad: BadRows
) -> Iterator[pa.RecordBatch]:
    """The same in pieces."""
    rows: list[list[Any]] = []
    for line, fields in records:
        try:
            rows.append([*schema.parse(fields, split), line])
        except RowError as error:
            bad.add(line + error.line_offset, error)
            continue
        if dropped := schema.take_ignored_parts():
            bad.dropped.update(dropped)
        if len(rows) == _CHUNK_ROWS:
            yield _record_batch(rows, schema.arrow_schema)
            rows = []
    if rows:
        yield _record_batch(rows, schema.arrow_schema)


def _record_batch(rows: list[list[Any]], schema: pa.Schema) -> pa.RecordBatch:
    columns = zip(*rows, strict=True)
    arrays = [
        pa.array(column, column_field.type)
        for column, column_field in zip(columns, schema, strict=True)
    ]
    return pa.record_batch(arrays, schema=schema)


def drop_rows(
    table: pa.Table, masked_errors: Sequence[tuple[np.ndarray, RowError]], bad: BadRows
) -> pa.Table:
    """The table without the rows of each mask, which go to ``bad`` with their fault."""
    dropped_mask = np.zeros(table.num_rows, dtype=bool)
    for mask, error in masked_errors:
        for line in table.column("line").filter(pa.array(mask & ~dropped_mask)).to_pylist():
            bad.add(line, error)
        dropped_mask |= mask
    return table.filter(pa.array(~dropped_mask)) if dropped_mask.any() else table


def check_label_kind(
    kind: str, task: str, table: pa.Table, classes_given: bool, bad: BadRows
) -> None:
    """DataError where the labels are not of the ``kind`` that ``task`` learns.

    Before bad rows are reported: thousands of them would hide the one cause. ``classes_given``: the
    classes were given, so that any number of them may be meant.
    """
    if kind == "number" and bad.counts[NOT_NUMERIC] > table.num_rows:
        line, detail = next(example for example in bad.first if "number" in example[1])
        raise DataError(
            f"data.task={task}, but most labels are no numbers ({detail})",
            where=f"{bad.source}:{line}",
            hint="Name another column with data.label, or take data.task=classification",
        )
    if kind == "class" and bad.counts[LABEL_LIST] > table.num_rows:
        line, detail = next(each for each in bad.first if "list" in each[1])
        raise DataError(
            f"data.task={task}, but most labels are lists ({detail})",
            where=f"{bad.source}:{line}",
            hint="Set data.task=multi_label",
        )
    if kind != "class" or classes_given:
        return
    names = pc.unique(table.column("label")).drop_null().to_pylist()
    if len(names) > 2 and _are_continuous(names):
        raise DataError(
            f"the labels are numbers such as {format_list(names[:3])}, not classes",
            where=bad.source,
            hint="Take data.task=regression, or name the classes with data.labels",
        )
    _check_class_count(names, table.num_rows, bad, "Is data.label the column you mean?")


def _check_class_count(names: Sequence[str], rows: int, bad_rows: BadRows, question: str) -> None:
    """DataError where most rows have a class of their own."""
    if rows >= _MIN_ROWS_TO_JUDGE and len(names) > rows / 2:
        raise DataError(
            f"{len(names):,} different labels in {rows:,} rows"
            f" ({', '.join(map(quote_value, names[:3]))}, …)",
            where=bad_rows.source,
            hint=f"{question} If so, name the classes with data.labels",
        )


def check_label_separator(table: pa.Table, separator: str, bad: BadRows, notes: list[str]) -> None:
    """DataError where ``separator`` is not the one between the labels of the rows.

    That is: no row has two labels, and another separator would make fewer classes. Where some
    rows have two, ``notes`` gets a remark instead.
    """
    values = table.column("label").drop_null()
    names = pc.unique(pc.list_flatten(values)).to_pylist()
    joined = find_joined_names(name for name in names if separator not in name)
    if joined is not None:
        shown = "\\t" if joined[0] == "\t" else joined[0]
        what = f"names such as {joined[1]} contain {shown!r}"
        hint = f"'data.label_separator={shown}'"
        if (pc.max(pc.list_value_length(values)).as_py() or 0) > 1:
            notes.append(f"{what}: if it separates labels, set {hint}")
        else:
            raise DataError(
                f"{len(names):,} labels, never two in one row, and {what}",
                where=bad.source,
                hint=f"Set {hint}, or name the classes with data.labels if these are names",
            )
    question = f"Is {separator!r} the separator (data.label_separator)?"
    _check_class_count(names, len(values), bad, question)


def find_joined_names(names: Iterable[str]) -> tuple[str, str] | None:
    """A separator that splits ``names`` into fewer names than there are, and such a name."""
    known = list(names)
    for separator in _SEPARATORS:
        joined = [name for name in known if separator in name]
        parts = {part.strip() for name in known for part in name.split(separator)}
        if len(joined) > 1 and len(parts) < len(known):
            return separator, quote_value(min(joined))
    return None


def check_enough_rows(schema: RowSchema, table: pa.Table, bad: BadRows, training: bool) -> None:
    """DataError where nothing is left to use, or (``training``) nothing to learn."""
    if table.num_rows == 0:
        reasons = ", ".join(f"{count:,} × {reason}" for reason, count in bad.counts.most_common())
        problem = f"no row can be used ({reasons})" if reasons else "there are no rows"
        raise DataError(problem, where=bad.source)
    if training and (problem := schema.nothing_to_learn(table)):
        raise DataError(
            problem,
            where=bad.source,
            hint=f"There is nothing to learn. {schema.missing_label_hint}",
        )


def _are_continuous(names: list[str]) -> bool:
    try:
        return any(not float(name).is_integer() for name in names)
    except (ValueError, OverflowError):
        return False


NOT_NUMERIC = "label is no number"
NOT_BINARY = "label is not 0 or 1"
LABEL_LIST = "label is a list"
LABEL_MAPPING = "label is a mapping"

_ITEM_PATTERN = r"""('([^'\\]|\\.)*'|"([^"\\]|\\.)*"|[+-]?[0-9.]+|true|false|True|False)"""
_ITEMS_PATTERN = (
    rf"{_ITEM_PATTERN}([\s,]+{_ITEM_PATTERN})*[\s,]*"  # what numpy prints has no commas
)
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
    """How labels are stored: ``arrow_type`` in Arrow, ``parse`` reads those of one row."""

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
    raise RowError(
        "label is no name", f"the label is a {type(value).__name__}, not a name or number"
    )


def class_name_as_number(name: str) -> Decimal | None:
    """The number that a class name is: ``1``, ``1.0`` and ``1e0`` are equal; None for a name."""
    return Decimal(name) if NUMBER_PATTERN.fullmatch(name) else None


def _parse_single_label(value: Any) -> str | None:
    """The name of a class. Fault for several of them, in a list, tuple or set, or its text."""
    _reject_mapping(value)
    if isinstance(value, (list, tuple)) or (isinstance(value, str) and _looks_like_list(value)):
        raise RowError(
            LABEL_LIST,
            f"the label {quote_value(value)} is a list; lists of labels are for"
            " data.task=multi_label",
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
            LABEL_LIST,
            f'the label {quote_value(text)} is no list that can be read; write ["a", "b"]',
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
