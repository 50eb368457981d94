"""Checks of the labels of a whole split: their kind, their number, and their separator."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from bertft.data.labels import NOT_NUMERIC, distinct_labels, plain_number
from bertft.data.rows import BadRows
from bertft.errors import DataError
from bertft.tasks.shared.label_lists import LABEL_LIST, LABEL_SPANS
from bertft.utils.messages import format_list, quote_value

__all__ = ["check_label_kind", "check_label_separator", "find_joined_names"]

_SEPARATORS = ("|", ";", ",", "\t", "/", "+", "&")
_MIN_ROWS_TO_JUDGE = 20  # with fewer rows, the number of classes is not checked


def check_label_kind(
    kind: str,
    task: str,
    table: pa.Table,
    classes_given: bool,
    bad: BadRows,
    max_skipped: float,
) -> None:
    """Raise DataError if the labels are not of the ``kind`` that ``task`` needs.

    This runs before bad rows are reported, because thousands of them would hide the one cause.
    ``classes_given``: the class names are configured, so that any number of classes is accepted.
    ``max_skipped``: the fraction of rows that may be skipped. More lists than that are an error
    with any data.on_bad_row; a single list is reported as an invalid row.
    """
    if kind == "number" and bad.counts[NOT_NUMERIC] > table.num_rows:
        line, detail = next(example for example in bad.first_errors if "number" in example[1])
        raise DataError(
            f"data.task={task}, but most labels are not numbers ({detail})",
            where=f"{bad.source}:{line}",
            hint="Set data.label=<column> to a column of numbers, or data.task=classification",
        )
    most, total = table.num_rows, table.num_rows + len(bad)
    few = min(most, max(1, max_skipped * max(total, bad.read)))
    for reason, what, other_task, allowed in (
        (LABEL_SPANS, "spans", "token_classification", most),
        (LABEL_LIST, "lists", "multi_label", few),
    ):
        if kind == "class" and bad.counts[reason] > allowed:
            examples = (example for example in bad.first_errors if what in example[1])
            line, detail = next(examples, bad.first_errors[0])
            count = bad.counts[reason]
            share = "most" if count > most else f"{count:,} of {total:,}"
            error = DataError(
                f"data.task={task}, but {share} labels are {what} ({detail})",
                where=f"{bad.source}:{line}",
                hint=f"Set data.task={other_task}",
            )
            error.proposed_settings = [f"data.task={other_task}"]
            raise error
    if kind != "class" or classes_given:
        return
    names = distinct_labels(table)
    if len(names) > 2 and _are_continuous(names):
        error = DataError(
            f"the labels are numbers such as {format_list(names[:3])}, not classes",
            where=bad.source,
            hint="Set data.task=regression, or list the classes with data.labels",
        )
        error.proposed_settings = ["data.task=regression"]
        raise error
    question = "Is data.label the column you mean?"
    written = next((name for name in names if plain_number(name) is not None), None)
    if written is not None:
        question = (
            f"If they are numbers, write {plain_number(written)} in place of"
            f" {quote_value(written)}, and set data.task=regression. {question}"
        )
    _check_class_count(names, table.num_rows, bad, question)


def _check_class_count(names: Sequence[str], rows: int, bad_rows: BadRows, question: str) -> None:
    """Raise DataError if there are more than half as many classes as rows."""
    if rows >= _MIN_ROWS_TO_JUDGE and len(names) > rows / 2:
        raise DataError(
            f"{len(names):,} different labels in {rows:,} rows"
            f" ({', '.join(map(quote_value, names[:3]))}, …)",
            where=bad_rows.source,
            hint=f"{question} If so, list the classes with data.labels",
        )


def check_label_separator(table: pa.Table, separator: str, bad: BadRows, notes: list[str]) -> None:
    """Raise DataError if another separator than ``separator`` is used between the labels.

    That is: no row has two labels, and another separator would give fewer classes. If some rows
    have two labels, a note is added to ``notes`` instead.
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
                f"{len(names):,} labels, never two per row, and {what}",
                where=bad.source,
                hint=f"Set {hint}, or list the classes with data.labels if these are names",
            )
    question = f"Is {separator!r} the separator (data.label_separator)?"
    _check_class_count(names, len(values), bad, question)


def find_joined_names(names: Iterable[str]) -> tuple[str, str] | None:
    """A separator that splits ``names`` into fewer distinct names, and a name that contains it."""
    all_names = list(names)
    for separator in _SEPARATORS:
        joined_names = [name for name in all_names if separator in name]
        single_names = {single.strip() for name in all_names for single in name.split(separator)}
        if len(joined_names) > 1 and len(single_names) < len(all_names):
            return separator, quote_value(min(joined_names))
    return None


def _are_continuous(names: list[str]) -> bool:
    try:
        numbers = [float(name) for name in names]
        return any(not number.is_integer() for number in numbers)
    except (ValueError, OverflowError):
        return False
