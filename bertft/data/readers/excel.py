"""Rows of Excel workbooks: the first visible sheet, whose first row has the names of the columns.

    cell                         text
    text                         the same text
    1, 1.0, 1.5                  1, 1, 1.5
    TRUE                         true
    a date, a date with a time   2024-05-01, 2024-05-01 13:45:00
    a formula                    its value when the workbook was saved
    empty                        None
    #N/A and other errors        the row is invalid

Formats of numbers are not applied: 50 % is 0.5. Rows have the numbers that Excel shows.
"""

from __future__ import annotations

import datetime
import importlib
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any

from bertft.config.data import DataConfig
from bertft.data.readers.compressed_files import expansion_limit
from bertft.data.rows import BadRows, RowError
from bertft.data.schema import ColumnNotFound, ColumnSpec, Record, find_columns
from bertft.errors import DataError
from bertft.utils.messages import format_list, quote_value
from bertft.utils.safe_files import open_regular_file, unreadable

__all__ = ["cell_text", "read_excel"]

_OLE_MAGIC = b"\xd0\xcf\x11\xe0"  # of .xls, and of workbooks with a password
_MAX_ROWS = 1 << 20  # of a sheet
_MAX_EXACT = 1 << 53  # whole numbers up to this have all their digits
_MIDNIGHT = datetime.time()
_ESCAPED_CONTROL = re.compile("_x00([01][0-9A-Fa-f])_")
# What openpyxl raises for damaged files.
_READ_ERRORS = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,  # of XML
    TypeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)


def read_excel(
    path: Path, columns: ColumnSpec, config: DataConfig, bad: BadRows
) -> Iterator[Record]:
    """(row of the sheet, requested cells as text) of each row that is not empty.

    Rows with an error in a requested cell, and repeated headers, are added to ``bad``.

    Raises:
        DataError: the file is not a workbook that can be read, a column does not exist, or openpyxl
            is not installed.
    """
    rows = _iter_rows(path, bad)
    first = next(rows, None)
    if first is None:
        others = f" ({'; '.join(bad.notes)})" if bad.notes else ""
        raise DataError(
            f"the sheet is empty{others}",
            where=bad.source,
            hint="Make the sheet with the rows the first one, or save it as CSV",
        )
    width, names, header = len(first[1]), None, None
    if config.header is not False:
        header = [cell_text(cell.value) for cell in first[1]]
        names = ["" if name is None else name.strip() for name in header]
        bad.other_lines["header"] += 1
    try:
        positions = find_columns(columns, names, width, bad.source)
    except ColumnNotFound as not_found:
        second = next(rows, None)
        if second is not None and len(second[1]) > width == 1:
            raise _title_error(first[0], bad.source) from not_found
        raise
    if header is None:
        rows = chain([first], rows)
    for number, cells in rows:
        bad.count_row()
        values = [
            cells[position] if position is not None and position < len(cells) else None
            for position in positions
        ]
        row_error = _row_error(cells, values, width, header, config.ragged, bad)
        if row_error is not None:
            bad.add(number, row_error)
            continue
        yield number, [None if cell is None else cell_text(cell.value) for cell in values]


def cell_text(value: object) -> str | None:
    """The value of a cell as text; None for an empty cell."""
    if value is None or value == "":
        return None
    if isinstance(value, str):
        if "_x00" in value:  # the file format writes a carriage return as _x000D_
            value = _ESCAPED_CONTROL.sub(lambda match: chr(int(match[1], 16)), value)
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) <= _MAX_EXACT else repr(value)
    if isinstance(value, datetime.datetime):
        is_date = value.time() == _MIDNIGHT
        return value.date().isoformat() if is_date else value.isoformat(sep=" ")
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    return str(value)


def _row_error(
    cells: Sequence[Any],
    values: Sequence[Any],
    width: int,
    header: list[str | None] | None,
    ragged: bool,
    bad: BadRows,
) -> RowError | None:
    """Why a row is invalid; None if it is valid."""
    for cell in values:
        if cell is not None and cell.data_type == "e":
            return RowError(
                "error in a cell", f"the cell {cell.coordinate} has the error {cell.value}"
            )
    if len(cells) > width:
        if not ragged:
            detail = f"{len(cells)} columns where {width} are expected"
            return RowError("wrong number of columns", detail)
        bad.dropped["text after the last column ignored"] += 1
    if header is not None and 1 < width == len(cells):
        is_repeated = (
            cell_text(cell.value) == name for cell, name in zip(cells, header, strict=True)
        )
        if all(is_repeated):
            return RowError("repeated header", "the header is repeated: were tables joined?")
    return None


def _iter_rows(path: Path, bad: BadRows) -> Iterator[tuple[int, Sequence[Any]]]:
    """(number, cells up to the last that is not empty) of each row that is not empty."""
    workbook_class = _import_openpyxl(bad.source)
    try:
        file = open_regular_file(path)
    except OSError as error:
        raise unreadable(error, bad.source) from error
    with file:
        _check_archive(path, file.peek(4)[:4], bad.source)
        try:
            workbook = workbook_class(file, read_only=True, data_only=True, keep_links=False)
        except _READ_ERRORS as error:
            raise _invalid_error(error, bad.source) from error
        with closing(workbook):
            sheet = _choose_sheet(workbook.worksheets, bad)
            sheet.reset_dimensions()  # some programs write wrong ones
            rows = sheet.iter_rows()
            number = blank_rows = 0
            while True:
                try:
                    cells = next(rows, None)
                except _READ_ERRORS as error:
                    raise _invalid_error(error, bad.source) from error
                if cells is None:
                    return
                number += 1
                if number > _MAX_ROWS:
                    raise DataError(f"has more than {_MAX_ROWS:,} rows", where=bad.source)
                size = len(cells)
                while size and cell_text(cells[size - 1].value) is None:
                    size -= 1
                if not size:
                    blank_rows += 1
                    continue
                bad.blank_lines += blank_rows  # empty rows at the end are not counted
                blank_rows = 0
                yield number, cells[:size]


def _import_openpyxl(source: str) -> Any:
    """``openpyxl.load_workbook``. Raises DataError if openpyxl is not installed."""
    try:
        openpyxl = importlib.import_module("openpyxl")
    except ImportError as error:
        raise DataError(
            "reading Excel workbooks needs the package openpyxl, which is not installed",
            where=source,
            hint='Install it with pip install "bertft[excel]"',
        ) from error
    # About formats and other parts of a workbook that are not read.
    warnings.filterwarnings("ignore", module=r"openpyxl\.")
    return openpyxl.load_workbook


def _check_archive(path: Path, magic: bytes, source: str) -> None:
    """Raise DataError for another format, and for a small file that expands to a huge one."""
    if magic == _OLE_MAGIC:
        raise DataError(
            "is an old workbook (.xls), or has a password",
            where=source,
            hint="Save it as .xlsx without a password, or save the sheet as CSV",
        )
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    except _READ_ERRORS as error:
        raise _invalid_error(error, source) from error
    limit = expansion_limit(path.stat().st_size)
    if size > limit:
        raise DataError(
            f"expands to {size:,} bytes, more than the limit of {limit:,} bytes",
            where=source,
            hint="If this is right, save the sheet as CSV",
        )


def _choose_sheet(sheets: Sequence[Any], bad: BadRows) -> Any:
    """The first visible sheet. Raises DataError if there is none."""
    visible = [sheet for sheet in sheets if sheet.sheet_state == "visible"]
    if not visible:
        raise DataError("the workbook has no visible sheet", where=bad.source)
    if len(visible) > 1:
        others = format_list((quote_value(sheet.title) for sheet in visible[1:]), 4)
        bad.notes.append(
            f"only the first sheet, {quote_value(visible[0].title)}, is read, not {others}"
        )
    return visible[0]


def _title_error(row: int, source: str) -> DataError:
    return DataError(
        f"row {row} has one cell: it is a title, not the names of the columns",
        where=source,
        hint="Delete the rows above the names of the columns, or save the sheet as CSV without"
        " them",
    )


def _invalid_error(error: Exception, source: str) -> DataError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return DataError(
        f"not a valid Excel workbook ({reason})",
        where=source,
        hint="Open it in a spreadsheet program and save it again, as .xlsx or CSV",
    )
