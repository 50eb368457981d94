"""Rows of CSV and TSV files.

With quoting a file follows RFC 4180: a field in double quotes may hold separators and line breaks,
and a doubled quote is one quote. Without it a quote is a character like any other.
"""

from __future__ import annotations

import csv
import re
from collections import Counter, deque
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from bertft.config.data import DataConfig
from bertft.data.bad_rows import BadRows, Fault
from bertft.data.columns import Asked, find
from bertft.data.sniff import first_line
from bertft.data.text_files import open_text, text_lines
from bertft.errors import DataError

__all__ = ["Record", "named_separator", "read_separated", "read_separated_file"]

Record = tuple[int, list[Any]]  # the line it starts on, and its fields

_SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
# The first line, for Excel, which fills it up with separators when it saves the file again.
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\1*[ ]*', re.IGNORECASE)
_LONGEST_FIELD = 1 << 24  # a quote that nobody closes must not swallow a large file into memory
_ALL_BUT = 0.9  # of the lines inside quoted fields; prose has some that look like rows by chance
_WITHOUT_QUOTING = "Double it within a field, or give data.quoting=false to read quotes as text"
_WITH_QUOTING = "data.quoting=true reads a field in double quotes as one field, without its quotes"


def named_separator(given: str | None) -> str | None:
    """The character that ``data.separator`` names: ``tab`` and ``\\t`` are a tab."""
    return "\t" if given is not None and given.lower() in ("tab", "\\t") else given


def read_separated_file(
    path: Path, columns: Asked, config: DataConfig, bad: BadRows
) -> Iterator[Record]:
    """The requested fields of each row of a file; data.separator or the ending separates them."""
    line = _SEPARATOR_LINE.fullmatch(first_line(path, config.encoding))
    separator = named_separator(config.separator)
    if separator is None:
        separator = line[1] if line else _SEPARATORS[path.suffix.lower()]
    if separator in ("", '"', "\n", "\r"):
        raise DataError(f"{separator!r} cannot separate columns", where="data.separator")
    quoting = config.quoting
    if quoting is None:  # a tab is no character of a text, and so needs no quotes around it
        quoting = separator != "\t" and len(separator) == 1
    with open_text(path, config.encoding, "" if quoting else "\n") as file:
        yield from read_separated(
            file,
            columns,
            separator=separator,
            quoting=quoting,
            header=config.header,
            encoding=config.encoding,
            bad=bad,
            skip_first=line is not None,
            report_quotes=config.quoting is None,
        )


def read_separated(
    file: TextIO,
    columns: Asked,
    *,
    separator: str,
    quoting: bool,
    header: bool | None,
    encoding: str,
    bad: BadRows,
    skip_first: bool = False,
    report_quotes: bool = False,
) -> Iterator[Record]:
    """The asked fields of each row, as strings. Blank lines are no rows.

    ``header`` None: there is one if a column is asked for by name. ``skip_first``: the first line
    that is not blank is no row. ``report_quotes``: without quoting, fields that look quoted are
    noted in ``bad``. Rows of another width than the first line's, and text after a closing quote,
    go to ``bad``. DataError for a column that does not exist, an empty file, a quote that is
    never closed. A row that repeats the header goes to ``bad`` too.
    """
    lines = _Lines(text_lines(file, bad, encoding))
    if skip_first:
        for text in lines:
            if text.strip():
                bad.other_lines["sep= line"] += 1
                break
            bad.count_blank()
    quotes = _Quotes() if report_quotes and not quoting else None
    records = _quoted(lines, separator, bad) if quoting else _plain(lines, separator, bad, quotes)
    first = next(records, None)
    if first is None:
        raise DataError("the file is empty", where=bad.source)
    width, names, header_again = len(first[1]), None, None
    if columns.named if header is None else header:
        names = [name.strip() for name in first[1]]
        bad.count_row(-1)
        bad.other_lines["header"] += 1
        header_again = first[1] if width > 1 else None  # a text may well be "text"
    else:
        records = chain([first], records)
    try:
        places = find(columns, names, width, bad.source)
    except DataError as error:
        if quotes and quotes.enclosed:  # the names have quotes around them
            raise DataError(error.what, where=error.where, hint=_WITH_QUOTING) from error
        raise
    for line, fields in records:
        if header_again is not None and _same(fields, header_again):
            bad.add(line, Fault("repeated header", "the header once more: were files joined?"))
        elif len(fields) == width:
            yield line, [None if place is None else fields[place] for place in places]
        else:
            count = "1 column" if len(fields) == 1 else f"{len(fields)} columns"
            hint = _WITH_QUOTING if quotes and (quotes.enclosed or quotes.open) else None
            what = f"{count} where {width} are expected"
            bad.add(line, Fault("wrong number of columns", what, hint=hint))
    if quotes:
        broken = width == 1 or bool(bad.counts["wrong number of columns"])
        bad.notes += quotes.notes(broken)


def _same(fields: list[str], header: list[str]) -> bool:
    """Whether a row is the header, maybe after the BOM of another file."""
    return fields[0].removeprefix("\ufeff") == header[0] and fields[1:] == header[1:]


class _Lines:
    """Lines of which those of a row that cannot be read may be read again, as rows of their own."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._again: deque[str] = deque()
        self.number = 0  # of the line read last
        self.taken: list[str] = []  # since the current row began

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._lines)
        self.number += 1
        self.taken.append(line)
        return line

    def begin(self) -> int:
        """The number of the line on which the next row begins."""
        self.taken.clear()
        return self.number + 1

    def after_first(self) -> None:
        """Go back to the line after the current row's first."""
        rest = self.taken[1:]
        self._again.extendleft(reversed(rest))
        self.number -= len(rest)
        del self.taken[1:]


class _Quotes:
    """Fields of a file read without quoting that look as if they were quoted."""

    def __init__(self) -> None:
        self.enclosed = self.open = 0

    def look(self, fields: list[str]) -> None:
        for field in fields:
            if field.startswith('"'):
                if len(field) > 1 and field[-1] == '"' and '"' not in field[1:-1].replace('""', ""):
                    self.enclosed += 1
                elif field.count('"') % 2:
                    self.open += 1

    def notes(self, broken: bool) -> list[str]:
        """``broken``: there are rows that may be parts of one."""
        notes = []
        if self.enclosed:
            fields = "1 field is" if self.enclosed == 1 else f"{self.enclosed:,} fields are"
            notes.append(
                f"{fields} enclosed in double quotes, which are read as text: "
                "data.quoting=true removes them, data.quoting=false confirms them"
            )
        if self.open and broken:
            fields = "1 field opens" if self.open == 1 else f"{self.open:,} fields open"
            notes.append(
                f"{fields} a double quote without closing it in the same line: data.quoting=true "
                "if quoted fields hold line breaks, else data.quoting=false"
            )
        return notes


def _plain(lines: _Lines, separator: str, bad: BadRows, quotes: _Quotes | None) -> Iterator[Record]:
    while True:
        number = lines.begin()
        line = next(lines, None)
        if line is None:
            return
        text = line.rstrip("\r\n")
        if not text:
            bad.count_blank()
            continue
        bad.count_row()
        fields = text.split(separator)
        if quotes is not None and '"' in text:
            quotes.look(fields)
        yield number, fields


def _quoted(lines: _Lines, separator: str, bad: BadRows) -> Iterator[Record]:
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_FIELD))
    try:
        reader = csv.reader(lines, delimiter=separator, strict=True)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{separator!r} cannot separate columns ({error})", where="data.separator",
            hint="Give one character, or data.quoting=false",
        ) from error  # fmt: skip
    broken: Counter[str] = Counter()
    while True:
        start = lines.begin()
        try:
            fields = next(reader, None)
        except csv.Error as error:
            long = "field larger" in str(error)
            if long or "unexpected end" in str(error):
                what = "a double quote is opened and never closed"
                if long:
                    what = f"a field has more than {_LONGEST_FIELD:,} characters: perhaps {what}"
                where = f"{bad.source}:{start}"
                raise DataError(what, where=where, hint=_WITHOUT_QUOTING) from error
            bad.count_row()
            bad.add(start, _csv_fault(error))
            lines.after_first()  # the others may be rows: the quote that joined them is a mistake
            continue
        if fields is None:
            break
        if not fields:
            bad.count_blank()
            continue
        bad.count_row()
        if (more := len(lines.taken) - 1) > 0:
            bad.other_lines["continued"] += more
            broken["lines"] = max(broken["lines"], more + 1)
            broken["fields"] += sum("\n" in field or "\r" in field for field in fields)
            # The first line and the last hold the rest of the row that the quote is in.
            inner = lines.taken[1:-1]
            broken["inner"] += len(inner)
            broken["rows"] += sum(line.count(separator) == len(fields) - 1 for line in inner)
        yield start, fields
    if broken["fields"]:
        bad.notes.append(_line_breaks(broken))


def _csv_fault(error: csv.Error) -> Fault:
    if "expected after" in str(error):
        return Fault("text after a closing quote", hint=_WITHOUT_QUOTING)
    return Fault("not CSV", f"cannot be read as CSV ({error})", hint=_WITHOUT_QUOTING)


def _line_breaks(broken: Counter[str]) -> str:
    """What is said of line breaks in quoted fields: right in most files, a stray quote in some."""
    count = broken["fields"]
    fields = "1 field contains" if count == 1 else f"{count:,} fields contain"
    note = f"{fields} line breaks (the longest row has {broken['lines']:,} lines)"
    rows = broken["rows"]
    if rows > _ALL_BUT * broken["inner"]:
        lines = "1 line inside looks" if rows == 1 else f"{rows:,} lines inside look"
        note += f"; {lines} like rows of their own: data.quoting=false if quotes are only text"
    return note
