"""Large CSV and TSV files, read in blocks of columns as long as their rows are well-formed.

A block is parsed by Arrow only if this certainly gives the rows of ``csv_reader``: UTF-8, no blank
lines, no carriage returns but at line ends, quotes only around whole fields, as many rows as lines.
From the first block that is not so, ``csv_reader`` reads the rest of the file, row by row.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from bertft.config.data import DataConfig
from bertft.data.column_blocks import ColumnBlock
from bertft.data.readers.chunks import (
    count_lines,
    open_rest,
    parse_chunks,
    read_chunks,
    skip_bytes,
)
from bertft.data.readers.compressed_files import open_binary
from bertft.data.readers.csv_reader import (
    QuoteCounter,
    TableStart,
    new_quote_counter,
    read_csv_file,
    read_rest_of_csv,
    read_table_start,
    read_tsv_file,
    table_separator,
)
from bertft.data.readers.separators import resolve_quoting
from bertft.data.rows import BadRows
from bertft.data.schema import ColumnSpec, ReadFunction, Record

__all__ = ["read_csv_blocks", "read_tsv_blocks"]

_MAX_FIRST_LINE_BYTES = 1 << 20
_BYTE_ORDER_MARK = "\ufeff".encode()
_QUOTE = ord('"')
_IS_LINE_END = np.isin(np.arange(256), [ord("\n"), ord("\r")])


def read_csv_blocks(
    path: Path, columns: ColumnSpec, config: DataConfig, bad: BadRows
) -> Iterator[Record | ColumnBlock]:
    """As ``read_csv_file``, with blocks in place of records."""
    return _read_blocks(path, columns, config, bad, ",", read_csv_file)


def read_tsv_blocks(
    path: Path, columns: ColumnSpec, config: DataConfig, bad: BadRows
) -> Iterator[Record | ColumnBlock]:
    """As ``read_tsv_file``, with blocks in place of records."""
    return _read_blocks(path, columns, config, bad, "\t", read_tsv_file)


def _read_blocks(
    path: Path,
    columns: ColumnSpec,
    config: DataConfig,
    bad: BadRows,
    default_separator: str,
    read_rows: ReadFunction,
) -> Iterator[Record | ColumnBlock]:
    separator, stated_separator = table_separator(path, columns, config, default_separator)
    is_supported = (
        config.encoding.lower() in ("utf-8", "utf8")
        and stated_separator is None
        and (config.separator is not None or separator == default_separator)
        and len(separator.encode()) == 1
        and not config.escapes
        and not config.ragged
    )
    is_quoted = resolve_quoting(config.quoting, separator)
    first = _read_first_row(path, separator, is_quoted) if is_supported else None
    if first is None:
        yield from read_rows(path, columns, config, bad)
        return
    fields, row_offset, next_offset = first
    bad.count_row()
    start = read_table_start(fields, columns, config, bad, new_quote_counter(config, separator))
    offset, line = next_offset, 2
    if not start.has_header:
        bad.count_row(-1)  # it is counted with its block
        offset, line = row_offset, 1
    is_complete = False
    with open_binary(path) as file:
        skip_bytes(file, offset)
        parse = partial(_parse_chunk, separator=separator, is_quoted=is_quoted, start=start)
        with closing(parse_chunks(parse, read_chunks(file))) as parsed_chunks:
            for chunk, block in parsed_chunks:
                if block is None:
                    break
                if start.quotes is not None and b'"' in chunk:
                    _count_quotes(start.quotes, chunk, separator)
                bad.count_row(block.size)
                yield replace(block, first_line=line)
                offset += len(chunk)
                line += block.size
            else:
                is_complete = True
    newline = "" if is_quoted else "\n"
    with io.StringIO() if is_complete else open_rest(path, offset, newline) as rest:
        yield from read_rest_of_csv(rest, line - 1, start, config, separator, bad)


def _read_first_row(
    path: Path, separator: str, is_quoted: bool
) -> tuple[list[str], int, int] | None:
    """The fields of the first row, and the offsets of its begin and end; None: it is unusual."""
    with open_binary(path) as file:
        content = file.readline(_MAX_FIRST_LINE_BYTES)
    offset = len(_BYTE_ORDER_MARK) if content.startswith(_BYTE_ORDER_MARK) else 0
    try:
        line = content[offset:].decode("utf-8")
    except UnicodeDecodeError:
        return None
    text = line.rstrip("\r\n")
    if not line.endswith("\n") or not text.strip() or "\r" in text or "\0" in text:
        return None
    if not is_quoted:
        return None if '"' in text else (text.split(separator), offset, len(content))
    try:
        [fields] = csv.reader([text], delimiter=separator, strict=True)
    except (csv.Error, ValueError):
        return None
    return fields, offset, len(content)


def _parse_chunk(
    chunk: bytes, separator: str, is_quoted: bool, start: TableStart
) -> ColumnBlock | None:
    """The rows in ``chunk``; None if they are not simple."""
    if not chunk:
        return None
    if not chunk.endswith(b"\n"):
        chunk += b"\n"
    line_count = count_lines(chunk)
    if line_count is None or (
        is_quoted and b'"' in chunk and not _has_simple_quotes(chunk, separator.encode())
    ):
        return None
    names = [str(position) for position in range(start.width)]
    needed = sorted({position for position in start.positions if position is not None})
    try:
        table = arrow_csv.read_csv(
            pa.BufferReader(chunk),
            arrow_csv.ReadOptions(use_threads=False, block_size=len(chunk) + 1, column_names=names),
            arrow_csv.ParseOptions(
                delimiter=separator, quote_char='"' if is_quoted else False, escape_char=False
            ),
            arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                include_columns=[names[position] for position in needed],
                strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid:  # such as rows of another width, or bytes that are not UTF-8
        return None
    if table.num_rows != line_count or _has_header(table, start):
        return None
    columns = [
        None if position is None else table.column(names[position]).combine_chunks()
        for position in start.positions
    ]
    return ColumnBlock(0, columns, table.num_rows)


def _count_quotes(quotes: QuoteCounter, chunk: bytes, separator: str) -> None:
    """Count the fields in ``chunk`` that look quoted."""
    for text in chunk.decode("utf-8").split("\n"):
        if '"' in text:
            quotes.count(text.rstrip("\r").split(separator))


def _has_simple_quotes(chunk: bytes, separator: bytes) -> bool:
    """Whether every quote begins or ends a field, or is one of two within a quoted field."""
    content = np.frombuffer(chunk, np.uint8)
    quotes = np.flatnonzero(content == _QUOTE)
    if len(quotes) % 2:
        return False
    opening, closing = quotes[0::2], quotes[1::2]
    is_double = opening[1:] == closing[:-1] + 1  # a quote within a field
    begins, ends = _IS_LINE_END.copy(), _IS_LINE_END.copy()
    begins[separator[0]] = ends[separator[0]] = True
    begins[ord("\r")] = False
    # The chunk begins a line and ends with a line feed, so that -1 is the end of a line as well.
    begins_field = begins[content[opening - 1]]
    ends_field = ends[content[closing + 1]]
    return bool(
        begins_field[:1].all()
        and (begins_field[1:] | is_double).all()
        and (ends_field[:-1] | is_double).all()
        and ends_field[-1:].all()
    )


def _has_header(table: pa.Table, start: TableStart) -> bool:
    """Whether a row may repeat the header, by the columns of ``table``."""
    if start.header is None:
        return False
    is_repeated = None
    for name in reversed(table.column_names):  # the last one differs in most rows
        column, column_name = table.column(name), start.header[int(name)]
        is_equal = pc.equal(column, column_name)
        if name == "0":  # after the byte order mark of a concatenated file
            is_equal = pc.or_(is_equal, pc.equal(column, f"\ufeff{column_name}"))
        is_repeated = is_equal if is_repeated is None else pc.and_(is_repeated, is_equal)
        if not pc.any(is_repeated).as_py():
            return False
    return is_repeated is not None
