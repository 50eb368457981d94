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

import pyarrow as pa
import pyarrow.compute as pc

from bertft.config.data import DataConfig
from bertft.data.guess_columns import LABEL_COLUMN_NAMES, TEXT_COLUMN_NAMES
from bertft.data.labels import NOT_BINARY, NOT_NUMERIC, class_name_as_number
from bertft.data.readers.separators import (
    SEPARATOR_NAMES,
    detect_separator,
    parse_separator_line,
    resolve_quoting,
    resolve_separator,
)
from bertft.data.readers.text_files import iter_lines, open_text, read_first_line
from bertft.data.rows import BadRows, RowError, encode_line
from bertft.data.schema import ColumnSpec, Record, RowSchema, find_columns
from bertft.errors import DataError
from bertft.utils.messages import quote_value

__all__ = [
    "check_unmarked_header",
    "read_csv",
    "read_csv_file",
    "read_tsv_file",
    "table_separator",
]


_COLUMN_NAME_PATTERN = re.compile(r"[^\W\d][\w.-]{0,23}")
_MIN_ROWS = 10  # fewer rows are not compared with the first line
_MIN_LENGTH_RATIO = 4  # texts are at least so many times longer than a column name


def check_unmarked_header(
    table: pa.Table, bad: BadRows, schema: RowSchema, config: DataConfig
) -> None:
    """Raise DataError if the first line of a CSV or TSV file may be a header.

    ``table`` and ``bad`` are the rows of the file, or of several files: the first one is checked.
    Nothing is checked if data.header is set or a column is requested by name, because then it is
    known whether there is a header.
    """
    if config.header is not None or schema.columns.has_names:
        return
    if bad.files:
        table = table.filter(pc.less(table.column("line"), encode_line(0, 1)))
    line = table.column("line")[0].as_py() if table.num_rows else None
    if bad.first_errors and (line is None or bad.first_errors[0][0] < line):
        line, detail = bad.first_errors[0]
        label_error = detail if bad.counts[NOT_NUMERIC] + bad.counts[NOT_BINARY] == 1 else ""
        candidates = label_error if "the label" in label_error else ""
    else:
        candidates = "" if line is None else _header_candidates(table, schema)
    if candidates:
        raise DataError(
            f"the first line may be a header ({candidates})",
            where=bad.location(line or 1),
            hint="Set data.header=true if it is, data.header=false if it is a row",
        )


def _header_candidates(table: pa.Table, schema: RowSchema) -> str:
    """The fields of the first row if they look like column names; else empty."""
    texts = [name for name in schema.text_fields if name in table.column_names]
    row_texts = [table.column(name)[0].as_py() for name in texts]
    are_known_names = all(value.strip().casefold() in TEXT_COLUMN_NAMES for value in row_texts)
    if "label" not in table.column_names:
        return ", ".join(map(quote_value, row_texts)) if are_known_names else ""
    values = table.column("label")
    if pa.types.is_list(values.type):
        values = pc.list_flatten(values)
    if not pa.types.is_string(values.type) or not len(values):
        return ""
    label = values[0].as_py()
    counts = {entry["values"]: entry["counts"] for entry in pc.value_counts(values).to_pylist()}
    if label is None or counts.pop(label) > 1 or not counts:
        return ""
    counts.pop(None, None)
    is_only_text = class_name_as_number(label) is None and all(
        class_name_as_number(name) is not None for name in counts
    )
    is_header = are_known_names or label.casefold() in LABEL_COLUMN_NAMES or is_only_text
    if not is_header and table.num_rows >= _MIN_ROWS and min(counts.values(), default=0) > 1:
        lengths = pc.utf8_length(table.column(texts[0]))
        median = pc.quantile(lengths, 0.5)[0].as_py()
        fields = [*row_texts, label]
        are_words = all(_COLUMN_NAME_PATTERN.fullmatch(value.strip()) for value in fields)
        is_header = are_words and median >= _MIN_LENGTH_RATIO * len(row_texts[0])
    return ", ".join(map(quote_value, [*row_texts, label])) if is_header else ""


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
    quoting = resolve_quoting(config.quoting, separator)
    lines = iter_lines(file, bad, config.encoding)
    skipped = 0
    if skip_first:
        for text in lines:
            skipped += 1
            if text.strip():
                bad.other_lines["sep= line"] += 1
                break
            bad.count_blank()
    quotes = _QuoteCounter() if config.quoting is None and not quoting else None
    records = (
        _read_quoted(_RewindableLines(lines, skipped), separator, bad, config.escapes)
        if quoting
        else _read_unquoted(lines, skipped, separator, bad, quotes, config.escapes)
    )
    first_record = next(records, None)
    if first_record is None:
        raise DataError("the file is empty", where=bad.source)
    first_fields, names, header_fields = first_record[1], None, None
    width = len(first_fields)
    if columns.has_names if config.header is None else config.header:
        names = [name.strip() for name in first_fields]
        bad.count_row(-1)
        bad.other_lines["header"] += 1
        if width > 1:  # a row of a single column may contain the text "text"
            header_fields = first_fields
    else:
        records = chain([first_record], records)
    try:
        positions = find_columns(columns, names, width, bad.source)
    except DataError as error:
        if quotes and quotes.quoted_fields:  # the names have quotes around them
            raise DataError(error.what, where=error.where, hint=_QUOTING_ON_HINT) from error
        raise
    select = _field_selector(positions)
    for line, fields in records:
        if len(fields) == width:
            if (
                header_fields is not None
                and fields[-1] == header_fields[-1]  # differs in most rows
                and _is_repeated_header(fields, header_fields)
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


class _QuoteCounter:
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
    quotes: _QuoteCounter | None,
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
