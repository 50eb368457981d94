"""Rows of CSV and TSV files.

CSV follows RFC 4180: a field in double quotes may hold separators and line breaks, and a doubled
quote is one quote. TSV knows no quoting: a quote is a character like any other.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import chain
from typing import Any, TextIO

from bertft.data.bad_rows import BadRows, Fault
from bertft.data.columns import Asked, find
from bertft.data.text_files import text_lines
from bertft.errors import DataError

__all__ = ["Record", "read_separated"]

Record = tuple[int, list[Any]]  # the line it starts on, and its fields

_LONGEST_FIELD = 1 << 24  # a quote that nobody closes must not swallow a large file into memory


def read_separated(
    file: TextIO,
    columns: Asked,
    *,
    separator: str,
    quoting: bool,
    header: bool | None,
    encoding: str,
    bad: BadRows,
) -> Iterator[Record]:
    """The asked fields of each row, as strings. Blank lines are no rows.

    ``header`` None: there is one if a column is asked for by name. Rows of another width than
    the first line's, and text after a closing quote, go to ``bad``. DataError for a column that
    does not exist, an empty file, a quote that is never closed.
    """
    lines = text_lines(file, bad.source, encoding)
    records = _quoted(lines, separator, bad) if quoting else _plain(lines, separator)
    first = next(records, None)
    if first is None:
        raise DataError("the file is empty", where=bad.source)
    width, names = len(first[1]), None
    if columns.named if header is None else header:
        names = [name.strip() for name in first[1]]
    else:
        records = chain([first], records)
    places = find(columns, names, width, bad.source)
    for line, fields in records:
        if len(fields) == width:
            yield line, [None if place is None else fields[place] for place in places]
        else:
            count = "1 column" if len(fields) == 1 else f"{len(fields)} columns"
            bad.add(line, Fault("wrong number of columns", f"{count} where {width} are expected"))


def _plain(lines: Iterator[str], separator: str) -> Iterator[Record]:
    for number, line in enumerate(lines, start=1):
        text = line.rstrip("\r\n")
        if text:
            yield number, text.split(separator)


def _quoted(lines: Iterator[str], separator: str, bad: BadRows) -> Iterator[Record]:
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_FIELD))
    try:
        reader = csv.reader(lines, delimiter=separator, strict=True)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{separator!r} cannot separate columns ({error})", where="data.separator",
            hint="Give one character, or data.quoting=false",
        ) from error  # fmt: skip
    start = 1
    while True:
        try:
            for fields in reader:
                if fields:
                    yield start, fields
                start = reader.line_num + 1
            return
        except csv.Error as error:
            if "unexpected end" in str(error) or "field larger" in str(error):
                raise DataError(
                    "a double quote is opened and never closed", where=f"{bad.source}:{start}",
                    hint="Double it within a field, or give data.quoting=false",
                ) from error  # fmt: skip
            bad.add(start, Fault("text after a closing quote"))
            start = reader.line_num + 1
