"""What a row must be to be used, and what the rows together must be to serve a task."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertft.config.messages import listing, quoted
from bertft.data.bad_rows import BadRows, Fault
from bertft.data.labels import LABEL_LIST, NO_NUMBER
from bertft.errors import DataError

if TYPE_CHECKING:
    from bertft.data.forms.form import RowForm

__all__ = [
    "batches_of", "check_enough", "check_labels", "check_separator", "drop", "joined_names",
    "table_of",
]  # fmt: skip

_CHUNK = 65_536
_SEPARATORS = ("|", ";", ",", "\t", "/", "+", "&")
_MANY = 20  # rows from which on their number is held against the number of classes


def table_of(
    records: Iterable[tuple[int, Sequence[Any]]], form: RowForm, split: str, bad: BadRows
) -> pa.Table:
    """The records that can be used, as the table of ``Rows``; the others go to ``bad``.

    A missing label is null here, for a whole split may have none.
    """
    return pa.Table.from_batches(list(batches_of(records, form, split, bad)), form.arrow)


def batches_of(
    records: Iterable[tuple[int, Sequence[Any]]], form: RowForm, split: str, bad: BadRows
) -> Iterator[pa.RecordBatch]:
    """The same in pieces."""
    rows: list[list[Any]] = []
    for line, fields in records:
        try:
            rows.append([*form.parse(fields, split), line])
        except Fault as fault:
            bad.add(line + fault.after, fault)
            continue
        if dropped := form.take_dropped():
            bad.dropped.update(dropped)
        if len(rows) == _CHUNK:
            yield _batch(rows, form.arrow)
            rows = []
    if rows:
        yield _batch(rows, form.arrow)


def _batch(rows: list[list[Any]], schema: pa.Schema) -> pa.RecordBatch:
    columns = zip(*rows, strict=True)
    arrays = [pa.array(column, each.type) for column, each in zip(columns, schema, strict=True)]
    return pa.record_batch(arrays, schema=schema)


def drop(table: pa.Table, faulty: Sequence[tuple[np.ndarray, Fault]], bad: BadRows) -> pa.Table:
    """The table without the rows of each mask, which go to ``bad`` with their fault."""
    gone = np.zeros(table.num_rows, dtype=bool)
    for mask, fault in faulty:
        for line in table.column("line").filter(pa.array(mask & ~gone)).to_pylist():
            bad.add(line, fault)
        gone |= mask
    return table.filter(pa.array(~gone)) if gone.any() else table


def check_labels(kind: str, task: str, table: pa.Table, named: bool, bad: BadRows) -> None:
    """DataError where the labels are not of the ``kind`` that ``task`` learns.

    Before bad rows are reported: thousands of them would hide the one cause. ``named``: the
    classes were given, so that any number of them may be meant.
    """
    if kind == "number" and bad.counts[NO_NUMBER] > table.num_rows:
        line, detail = next(each for each in bad.first if "number" in each[1])
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
    if kind != "class" or named:
        return
    names = pc.unique(table.column("label")).drop_null().to_pylist()
    if len(names) > 2 and _continuous(names):
        raise DataError(
            f"the labels are numbers such as {listing(names[:3])}, not classes",
            where=bad.source,
            hint="Take data.task=regression, or name the classes with data.labels",
        )
    _check_number(names, table.num_rows, bad, "Is data.label the column you mean?")


def _check_number(names: Sequence[str], rows: int, bad: BadRows, question: str) -> None:
    """DataError where most rows have a class of their own."""
    if rows >= _MANY and len(names) > rows / 2:
        raise DataError(
            f"{len(names):,} different labels in {rows:,} rows"
            f" ({', '.join(map(quoted, names[:3]))}, …)",
            where=bad.source,
            hint=f"{question} If so, name the classes with data.labels",
        )


def check_separator(table: pa.Table, separator: str, bad: BadRows, notes: list[str]) -> None:
    """DataError where ``separator`` is not the one between the labels of the rows.

    That is: no row has two labels, and another separator would make fewer classes. Where some
    rows have two, ``notes`` gets a remark instead.
    """
    values = table.column("label").drop_null()
    names = pc.unique(pc.list_flatten(values)).to_pylist()
    other = joined_names(name for name in names if separator not in name)
    if other is not None:
        shown = "\\t" if other[0] == "\t" else other[0]
        what = f"names such as {other[1]} contain {shown!r}"
        hint = f"'data.label_separator={shown}'"
        if (pc.max(pc.list_value_length(values)).as_py() or 0) > 1:
            notes.append(f"{what}: if it separates labels, set {hint}")
        else:
            raise DataError(
                f"{len(names):,} labels, never two in one row, and {what}", where=bad.source,
                hint=f"Set {hint}, or name the classes with data.labels if these are names",
            )  # fmt: skip
    question = f"Is {separator!r} the separator (data.label_separator)?"
    _check_number(names, len(values), bad, question)


def joined_names(names: Iterable[str]) -> tuple[str, str] | None:
    """A separator that splits ``names`` into fewer names than there are, and such a name."""
    known = list(names)
    for separator in _SEPARATORS:
        joined = [name for name in known if separator in name]
        parts = {part.strip() for name in known for part in name.split(separator)}
        if len(joined) > 1 and len(parts) < len(known):
            return separator, quoted(min(joined))
    return None


def check_enough(form: RowForm, table: pa.Table, bad: BadRows, training: bool) -> None:
    """DataError where nothing is left to use, or (``training``) nothing to learn."""
    if table.num_rows == 0:
        reasons = ", ".join(f"{count:,} × {reason}" for reason, count in bad.counts.most_common())
        what = f"no row can be used ({reasons})" if reasons else "there are no rows"
        raise DataError(what, where=bad.source)
    if training and (what := form.nothing_to_learn(table)):
        raise DataError(what, where=bad.source, hint=f"There is nothing to learn. {form.advice}")


def _continuous(names: list[str]) -> bool:
    try:
        return any(not float(name).is_integer() for name in names)
    except (ValueError, OverflowError):
        return False
