"""Rows of CSV and TSV files.

With quoting, a file follows RFC 4180: a field in double quotes may contain separators and line
breaks, and a doubled quote is one quote. Without it, a quote is an ordinary character.
"""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any

from bertft.config.data import DataConfig
from bertft.data.readers.separators import (
    SEPARATOR_NAMES,
    detect_separator,
    parse_separator_line,
    resolve_quoting,
    resolve_separator,
)
from bertft.data.readers.text_files import iter_lines, open_text, read_first_line
from bertft.data.rows import BadRows, RowError
from bertft.data.schema import ColumnSpec, Record, find_columns
from bertft.errors import DataError

__all__ = [
    "QuoteCounter",
    "TableStart",
    "new_quote_counter",
    "read_csv",
    "read_csv_file",
    "read_rest_of_csv",
    "read_table_start",
    "read_tsv_file",
    "table_separator",
]


# Without quoting, as in dumps of databases.
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED_CHARACTERS = {"n": "\n", "r": "\r", "t": "\t"}
_MAX_FIELD_CHARACTERS = 1 << 24  # limits the memory of a field whose quote is never closed
# Fraction of lines inside quoted fields that look like rows; prose has some by chance.
_ROW_LIKE_SHARE = 0.9
_QUOTING_OFF_HINT = (
    'Write a double quote inside a quoted field as two (""), or set data.quoting=false to read'
    " quotes as ordinary characters"
)
_QUOTING_ON_HINT = (
    "Set data.quoting=true to read a field in double quotes as one field, without its quotes"
)


def read_csv_file(
    path: Path, columns: ColumnSpec, config: DataConfig, bad: BadRows
) -> Iterator[Record]:
    """The requested fields of each row; separator: see ``separators``, else a comma."""
    return _read_table(path, columns, config, bad, ",")


def read_tsv_file(
    path: Path, columns: ColumnSpec, config: DataConfig, bad: BadRows
) -> Iterator[Record]:
    """The requested fields of each row; separator: see ``separators``, else a tab."""
    return _read_table(path, columns, config, bad, "\t")


def table_separator(
    path: Path, columns: ColumnSpec, config: DataConfig, default_separator: str
) -> tuple[str, str | None]:
    """(separator, the one that a first line ``sep=;`` states); see ``readers.separators``."""
    first_line = read_first_line(path, config.encoding)
    stated_separator = parse_separator_line(first_line)
    separator = resolve_separator(config.separator) or stated_separator
    if separator is None:
        separator = detect_separator(first_line, columns, config, default_separator)
    return separator, stated_separator


def _read_table(
    path: Path, columns: ColumnSpec, config: DataConfig, bad: BadRows, default_separator: str
) -> Iterator[Record]:
    separator, stated_separator = table_separator(path, columns, config, default_separator)
    is_detected = config.separator is None and stated_separator is None
    if is_detected and separator != default_separator:
        bad.notes.append(
            f"the columns are separated by {SEPARATOR_NAMES[separator]}, as in the header"
        )
    newline = "" if resolve_quoting(config.quoting, separator) else "\n"
    with open_text(path, config.encoding, newline) as file:
        yield from read_csv(
            file, columns, config, separator, bad, skip_first=stated_separator is not None
        )


def read_csv(
    file: Iterable[str],
    columns: ColumnSpec,
    config: DataConfig,
    separator: str,
    bad: BadRows,
    skip_first: bool = False,
) -> Iterator[Record]:
    """The requested fields of each row, as strings. Blank lines are not rows.

    data.header null: the file has a header if a column is requested by name. ``skip_first``: skip
    the first non-blank line. If data.quoting is null and the separator makes it false, a note about
    fields that look quoted is added to ``bad``. Rows of another width than the first line, rows
    with text after a closing quote and repeated headers are added to ``bad``. Raises DataError for
    a column that does not exist, an empty file, or a quote that is never closed.
    """
    lines = iter_lines(file, bad, config.encoding)
    skipped = 0
    if skip_first:
        for text in lines:
            skipped += 1
            if text.strip():
                bad.other_lines["sep= line"] += 1
                break
            bad.count_blank()
    quotes = new_quote_counter(config, separator)
    records = _iter_rows(lines, skipped, separator, config, bad, quotes)
    first_record = next(records, None)
    if first_record is None:
        raise DataError("the file is empty", where=bad.source)
    start = read_table_start(first_record[1], columns, config, bad, quotes)
    if not start.has_header:
        records = chain([first_record], records)
    yield from _select_columns(records, start, config, bad)


def read_rest_of_csv(
    file: Iterable[str],
    skipped: int,
    start: TableStart,
    config: DataConfig,
    separator: str,
    bad: BadRows,
) -> Iterator[Record]:
    """The rows of a table after its first ``skipped`` lines; see ``read_csv``."""
    lines = iter_lines(file, bad, config.encoding, skipped)
    records = _iter_rows(lines, skipped, separator, config, bad, start.quotes)
    return _select_columns(records, start, config, bad)


@dataclass(frozen=True)
class TableStart:
    """What the first row of a table determines.

    Attributes:
        width: the number of columns.
        has_header: whether the first row has their names.
        header: the names as they are in the file, if a row can repeat them.
        positions: those of the requested columns.
        quotes: counts fields that look quoted; None in a file with quoting.
    """

    width: int
    has_header: bool
    header: list[str] | None
    positions: list[int | None]
    quotes: QuoteCounter | None


def read_table_start(
    fields: list[str],
    columns: ColumnSpec,
    config: DataConfig,
    bad: BadRows,
    quotes: QuoteCounter | None,
) -> TableStart:
    """The start of a table whose first row, which is counted as a row, has ``fields``.

    Raises DataError for a column that does not exist.
    """
    names, header = None, None
    if columns.has_names if config.header is None else config.header:
        names = [name.strip() for name in fields]
        bad.count_row(-1)
        bad.other_lines["header"] += 1
        if len(fields) > 1:  # a row of a single column may contain the text "text"
            header = fields
    try:
        positions = find_columns(columns, names, len(fields), bad.source)
    except DataError as error:
        if quotes and quotes.quoted_fields:  # the names have quotes around them
            raise DataError(error.what, where=error.where, hint=_QUOTING_ON_HINT) from error
        raise
    return TableStart(len(fields), names is not None, header, positions, quotes)


def new_quote_counter(config: DataConfig, separator: str) -> QuoteCounter | None:
    """A counter for a file that is read without quoting, though data.quoting is not set."""
    if config.quoting is None and not resolve_quoting(None, separator):
        return QuoteCounter()
    return None


def _iter_rows(
    lines: Iterator[str],
    skipped: int,
    separator: str,
    config: DataConfig,
    bad: BadRows,
    quotes: QuoteCounter | None,
) -> Iterator[Record]:
    """The fields of each row on ``lines``, which follow ``skipped`` lines of the file."""
    if resolve_quoting(config.quoting, separator):
        return _read_quoted(_RewindableLines(lines, skipped), separator, bad, config.escapes)
    return _read_unquoted(lines, skipped, separator, bad, quotes, config.escapes)


def _select_columns(
    records: Iterator[Record], start: TableStart, config: DataConfig, bad: BadRows
) -> Iterator[Record]:
    """The requested fields of each row that has the width of the table."""
    width, header, quotes = start.width, start.header, start.quotes
    select = _field_selector(start.positions)
    for line, fields in records:
        if len(fields) == width:
            if (
                header is not None
                and fields[-1] == header[-1]  # differs in most rows
                and _is_repeated_header(fields, header)
            ):
                detail = "the header is repeated: were files concatenated?"
                bad.add(line, RowError("repeated header", detail))
                continue
            yield line, select(fields)
        elif config.ragged:
            yield line, select(_fit_to_width(fields, width, bad))
        else:
            count = "1 column" if len(fields) == 1 else f"{len(fields)} columns"
            hint = (
                _QUOTING_ON_HINT
                if quotes and (quotes.quoted_fields or quotes.unclosed_fields)
                else None
            )
            detail = f"{count} where {width} are expected"
            bad.add(line, RowError("wrong number of columns", detail, hint=hint))
    if quotes:
        has_broken_rows = width == 1 or bool(bad.counts["wrong number of columns"])
        bad.notes += quotes.format_notes(has_broken_rows)


def _field_selector(positions: Sequence[int | None]) -> Callable[[list[str]], list[Any]]:
    """A function that returns the fields at ``positions``, None for no position."""
    known = [position for position in positions if position is not None]
    if len(known) == len(positions) > 1:
        select = itemgetter(*known)
        return lambda fields: list(select(fields))
    return lambda fields: [None if position is None else fields[position] for position in positions]


def _fit_to_width(fields: list[str], width: int, bad: BadRows) -> list[str]:
    """``fields`` with empty ones for missing columns, and without the columns after the last."""
    if any(field.strip() for field in fields[width:]):
        bad.dropped["text after the last column ignored"] += 1
    return [*fields[:width], *[""] * (width - len(fields))]


def _is_repeated_header(fields: list[str], header: list[str]) -> bool:
    """Whether a row equals the header, possibly after the BOM of a concatenated file."""
    return fields[0].removeprefix("\ufeff") == header[0] and fields[1:] == header[1:]


class _RewindableLines:
    """Lines that can go back, to read the lines of an invalid row as single rows.

    ``skipped``: the lines of the file before ``lines``.
    """

    def __init__(self, lines: Iterator[str], skipped: int) -> None:
        self._lines = lines
        self._pushed_back: deque[str] = deque()
        self.number = skipped  # of the line read last
        self.row_lines: list[str] = []  # since the current row began

    def __iter__(self) -> Iterator[str]:
        while True:
            if self._pushed_back:
                line = self._pushed_back.popleft()
            elif (next_line := next(self._lines, None)) is not None:
                line = next_line
            else:
                return
            self.number += 1
            self.row_lines.append(line)
            yield line

    def start_row(self) -> int:
        """Start a row, and return its line number."""
        self.row_lines.clear()
        return self.number + 1

    def rewind_after_first(self) -> None:
        """Go back to the line after the current row's first."""
        rest = self.row_lines[1:]
        self._pushed_back.extendleft(reversed(rest))
        self.number -= len(rest)
        del self.row_lines[1:]


class QuoteCounter:
    """Counts fields that look quoted in a file that is read without quoting."""

    def __init__(self) -> None:
        self.quoted_fields = self.unclosed_fields = 0

    def count(self, fields: list[str]) -> None:
        for field in fields:
            if field.startswith('"'):
                if len(field) > 1 and field[-1] == '"' and '"' not in field[1:-1].replace('""', ""):
                    self.quoted_fields += 1
                elif field.count('"') % 2:
                    self.unclosed_fields += 1

    def format_notes(self, has_broken_rows: bool) -> list[str]:
        """Notes for the user; ``has_broken_rows``: some rows may be parts of one quoted row."""
        notes = []
        if self.quoted_fields:
            fields = (
                "1 field is" if self.quoted_fields == 1 else f"{self.quoted_fields:,} fields are"
            )
            notes.append(
                f"{fields} enclosed in double quotes, which are read as text: "
                "set data.quoting=true to remove them, or data.quoting=false to keep them"
            )
        if self.unclosed_fields and has_broken_rows:
            fields = (
                "1 field opens"
                if self.unclosed_fields == 1
                else f"{self.unclosed_fields:,} fields open"
            )
            notes.append(
                f"{fields} a double quote without closing it in the same line: set "
                "data.quoting=true if quoted fields contain line breaks, else data.quoting=false"
            )
        return notes


def _read_unquoted(
    lines: Iterator[str],
    skipped: int,
    separator: str,
    bad: BadRows,
    quotes: QuoteCounter | None,
    escapes: bool,
) -> Iterator[Record]:
    unescaped_separator = re.compile(rf"(?<!\\)((?:\\\\)*){re.escape(separator)}")
    for number, line in enumerate(lines, start=skipped + 1):
        text = line.rstrip("\r\n")
        if not text:
            bad.count_blank()
            continue
        bad.count_row()
        if escapes and "\\" in text:
            fields = [
                _ESCAPE.sub(_unescape, field)
                for field in unescaped_separator.sub("\\1\n", text).split("\n")
            ]
        else:
            fields = text.split(separator)
        if quotes is not None and '"' in text:
            quotes.count(fields)
        yield number, fields


def _unescape(match: re.Match[str]) -> str:
    return _ESCAPED_CHARACTERS.get(match[1], match[1])


def _read_quoted(
    lines: _RewindableLines, separator: str, bad: BadRows, escapes: bool
) -> Iterator[Record]:
    csv.field_size_limit(max(csv.field_size_limit(), _MAX_FIELD_CHARACTERS))
    try:
        escape = "\\" if escapes else None
        reader = csv.reader(lines, delimiter=separator, escapechar=escape, strict=True)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{separator!r} is not a valid separator ({error})",
            where="data.separator",
            hint="Set one character, or data.quoting=false",
        ) from error
    breaks = _LineBreakCounts()
    while True:
        start = lines.start_row()
        try:
            fields = next(reader, None)
        except csv.Error as error:
            field_too_long = "field larger" in str(error)
            if field_too_long or "unexpected end" in str(error):
                problem = "a double quote is never closed"
                if field_too_long:
                    problem = (
                        f"a field has more than {_MAX_FIELD_CHARACTERS:,} characters:"
                        f" perhaps {problem}"
                    )
                where = f"{bad.source}:{start}"
                raise DataError(problem, where=where, hint=_QUOTING_OFF_HINT) from error
            bad.count_row()
            bad.add(start, _csv_error(error))
            # The lines below may be rows that were joined by a stray quote.
            lines.rewind_after_first()
            continue
        if fields is None:
            break
        if not fields:
            bad.count_blank()
            continue
        bad.count_row()
        if (extra_lines := len(lines.row_lines) - 1) > 0:
            bad.other_lines["continued"] += extra_lines
            breaks.count(fields, lines.row_lines, separator)
        yield start, fields
    if breaks.fields:
        bad.notes.append(breaks.format_note())


def _csv_error(error: csv.Error) -> RowError:
    if "expected after" in str(error):
        return RowError("text after a closing quote", hint=_QUOTING_OFF_HINT)
    return RowError("not CSV", f"not valid CSV ({error})", hint=_QUOTING_OFF_HINT)


@dataclass
class _LineBreakCounts:
    """Counts of quoted fields with line breaks, which may come from a stray quote."""

    fields: int = 0
    longest_row: int = 0  # in lines
    inner_lines: int = 0  # lines that contain a part of one field only
    row_like_lines: int = 0  # inner lines with as many separators as a row

    def count(self, fields: list[str], lines: list[str], separator: str) -> None:
        """Count a row with ``fields`` that is on several ``lines``."""
        self.longest_row = max(self.longest_row, len(lines))
        self.fields += sum("\n" in field or "\r" in field for field in fields)
        inner = lines[1:-1]  # the first and the last line contain the other fields of the row
        self.inner_lines += len(inner)
        self.row_like_lines += sum(line.count(separator) == len(fields) - 1 for line in inner)

    def format_note(self) -> str:
        """A note for the user."""
        fields = "1 field contains" if self.fields == 1 else f"{self.fields:,} fields contain"
        note = f"{fields} line breaks (the longest row has {self.longest_row:,} lines)"
        rows = self.row_like_lines
        if rows > _ROW_LIKE_SHARE * self.inner_lines:
            lines = "1 line inside looks" if rows == 1 else f"{rows:,} lines inside look"
            note += f"; {lines} like rows: set data.quoting=false if quotes are only text"
        return note
