"""What a row must be to be used, and what the rows together must be to serve a task."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertft.config.messages import format_list, quote_value
from bertft.data.bad_rows import BadRows, RowError
from bertft.data.labels import LABEL_LIST, NOT_NUMERIC
from bertft.errors import DataError

if TYPE_CHECKING:
    from bertft.data.forms.form import RowSchema

__all__ = [
    "records_to_batches", "check_enough_rows", "check_label_kind", "check_label_separator", "drop_rows", "find_joined_names",
    "records_to_table",
]  # fmt: skip

_CHUNK_ROWS = 65_536
_SEPARATORS = ("|", ";", ",", "\t", "/", "+", "&")
_MIN_ROWS_TO_JUDGE = 20  # rows from which on their number is held against the number of classes


def records_to_table(
    records: Iterable[tuple[int, Sequence[Any]]], schema: RowSchema, split: str, bad: BadRows
) -> pa.Table:
    """The records that can be used, as the table of ``Rows``; the others go to ``bad``.

    A missing label is null here, for a whole split may have none.
    """
    return pa.Table.from_batches(list(records_to_batches(records, schema, split, bad)), schema.arrow_schema)


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
    arrays = [pa.array(column, column_field.type) for column, column_field in zip(columns, schema, strict=True)]
    return pa.record_batch(arrays, schema=schema)


def drop_rows(table: pa.Table, masked_errors: Sequence[tuple[np.ndarray, RowError]], bad: BadRows) -> pa.Table:
    """The table without the rows of each mask, which go to ``bad`` with their fault."""
    dropped_mask = np.zeros(table.num_rows, dtype=bool)
    for mask, error in masked_errors:
        for line in table.column("line").filter(pa.array(mask & ~dropped_mask)).to_pylist():
            bad.add(line, error)
        dropped_mask |= mask
    return table.filter(pa.array(~dropped_mask)) if dropped_mask.any() else table


def check_label_kind(kind: str, task: str, table: pa.Table, classes_given: bool, bad: BadRows) -> None:
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
                f"{len(names):,} labels, never two in one row, and {what}", where=bad.source,
                hint=f"Set {hint}, or name the classes with data.labels if these are names",
            )  # fmt: skip
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
        raise DataError(problem, where=bad.source, hint=f"There is nothing to learn. {schema.missing_label_hint}")


def _are_continuous(names: list[str]) -> bool:
    try:
        return any(not float(name).is_integer() for name in names)
    except (ValueError, OverflowError):
        return False
