"""``data.drop_rows``: leave out the training rows that CSV files list, such as suspects.csv.

    line, text, ...     one row of data.train per line, by its line in the file and its text
    file                the name of its file, if data.train names several

The text, and the label if the file has one, must be those of the row: a list that was made for
another file, or before the file was edited, is refused, because it would drop other rows.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bertft.config.data_files import format_names, resolve_files
from bertft.data.rows import Rows, encode_line
from bertft.errors import DataError
from bertft.utils.messages import format_list, quote_value, shorten
from bertft.utils.safe_files import read_regular_bytes

__all__ = ["DROPPED_REASON", "drop_listed_rows"]

DROPPED_REASON = "dropped (data.drop_rows)"
_SETTING = "data.drop_rows"
_MAX_BYTES = 1 << 30
_MAX_DIGITS = 12  # more than the lines of any file
_TEXT_FIELDS = ("text", "text_pair")
_FORMAT_HINT = "Use suspects.csv of bertft cross_validate, or a file with its columns"
_CHANGED_HINT = (
    "The list is for other rows, or data.train was edited since. Repeat bertft cross_validate"
)


def drop_listed_rows(rows: Rows, files: Any, label_separator: str) -> Rows:
    """``rows`` without those that ``files`` list; they are counted with a reason.

    Args:
        files: the value of data.drop_rows, one or more files. A row may be in several.
        label_separator: the separator of several labels per row.

    Raises:
        DataError: a file is not such a list, or a row is not the listed one.
    """
    entries = [entry for path in resolve_files(files, _SETTING) for entry in _read_list(path)]
    numbers = np.array(rows.column("line"), np.int64)
    fields = [field for field in _TEXT_FIELDS if field in rows.columns]
    is_dropped = np.zeros(len(rows), bool)
    for where, entry in entries:
        number = _row_number(entry, rows, where)
        row = int(np.searchsorted(numbers, number))
        if row == len(numbers) or numbers[row] != number:
            raise DataError(
                f"{rows.bad.location(number)} is not a training row",
                where=where,
                hint=_CHANGED_HINT,
            )
        _check_entry(entry, rows, row, fields, label_separator, where)
        is_dropped[row] = True
    if is_dropped.all():
        raise DataError(
            "lists all training rows", where=format_names(files), hint="Remove rows from the list"
        )
    return rows.select(~is_dropped, DROPPED_REASON) if is_dropped.any() else rows


def _read_list(path: Path) -> list[tuple[str, dict[str, str]]]:
    """(file and line, value by column) of each listed row."""
    name = str(path)
    content = read_regular_bytes(path, _MAX_BYTES, f"Set {_SETTING}=<CSV file>")
    limit = csv.field_size_limit(_MAX_BYTES)
    try:
        reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        columns = list(reader.fieldnames or ())
        missing = [column for column in ("line", "text") if column not in columns]
        if missing:
            raise DataError(
                f"column {missing[0]!r} not found (columns: {format_list(columns, 9)})",
                where=name,  # not the setting: a run of somebody else may name any file
                hint=_FORMAT_HINT,
            )
        return [(f"{name}:{reader.line_num}", dict(entry)) for entry in reader]
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(
            f"is not a CSV file in UTF-8 ({error})",
            where=name,
            hint=_FORMAT_HINT,
        ) from error
    finally:
        csv.field_size_limit(limit)


def _row_number(entry: Mapping[str, Any], rows: Rows, where: str) -> int:
    text = str(entry["line"] or "")
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
        raise DataError(
            f"the column 'line' has {shorten(repr(text), 40)}, not a line number",
            where=where,
            hint=_FORMAT_HINT,
        )
    files = [file for file, _ in rows.bad.files]
    if not files:
        return int(text)
    name = entry.get("file") or ""
    matches = [index for index, file in enumerate(files) if file == name]
    if not matches:  # the folder was moved
        base = Path(name).name
        matches = [index for index, file in enumerate(files) if Path(file).name == base]
    if len(matches) != 1:
        raise DataError(
            f"the column 'file' has {name!r}, and the files of data.train are"
            f" {format_list(files, 4)}",
            where=where,
            hint=_CHANGED_HINT,
        )
    return encode_line(int(text), matches[0])


def _check_entry(
    entry: Mapping[str, Any],
    rows: Rows,
    row: int,
    fields: Sequence[str],
    label_separator: str,
    where: str,
) -> None:
    """DataError unless text and label of the entry are those of ``row``."""
    actual = {field: rows.value(field, row) for field in fields}
    if "label" in rows.columns and "word" not in entry:  # a word's label is not the row's
        label = rows.value("label", row)
        actual["label"] = label_separator.join(label) if isinstance(label, list) else str(label)
    for field, value in actual.items():
        listed = entry.get(field)
        if listed is None and field != "text":
            continue
        if listed != value:
            raise DataError(
                f"{rows.location(row)} has the {field.replace('_', ' ')}"
                f" {quote_value(shorten(str(value), 60))}, and the list has"
                f" {quote_value(shorten(str(listed), 60))}",
                where=where,
                hint=_CHANGED_HINT,
            )
