"""Rows on standard input: JSON, JSON Lines, CSV or TSV with a header, or one text per line.

The format is data.format, or it is detected from the first line that is not blank:

    {"text": ...}               JSON Lines
    [ or {                      a JSON document
    id,text or id<tab>text      a table, if the line has the name of every text column
    sep=;                       a table, whose header is the next line (Excel)
    anything else               one text per line, as in a .txt file

A pipe or terminal is a live input: its rows are predicted as they arrive. A redirected file is read
in blocks, like the file of ``input``.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import select
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from bertft.config.data import DataConfig
from bertft.config.registry import READERS
from bertft.data.prediction_rows import PredictionInput, resolve_kept_columns, with_kept_columns
from bertft.data.readers.csv_reader import read_csv
from bertft.data.readers.json_documents import peek_first_object, read_json_chunks
from bertft.data.readers.json_lines import as_object, is_array_row, object_keys, read_json_lines
from bertft.data.readers.separators import (
    SEPARATOR_NAMES,
    SEPARATORS,
    parse_separator_line,
    resolve_separator,
    split_header,
)
from bertft.data.readers.text_files import (
    bounded_lines,
    checked_head,
    encoding_error,
    iter_lines,
    open_text,
    parse_json_object,
    starts_json_document,
)
from bertft.data.rows import BadRows
from bertft.data.schema import (
    ColumnSpec,
    Record,
    RowSchema,
    build_row_schema,
    sentence_columns,
)
from bertft.errors import DataError
from bertft.utils.atomic_io import convert_write_errors
from bertft.utils.messages import format_list

__all__ = [
    "has_column",
    "open_standard_input",
    "standard_input_stream",
    "store_standard_input",
]

_NAME = "stdin"
_JSON_OBJECT = re.compile(r'\s*\{\s*("|\}|$)')
_TABLE_SEPARATORS = {"csv": ",", "tsv": "\t"}  # by format
_TABLE_FORMATS = (None, *_TABLE_SEPARATORS)
_PEEKED_BYTES = 1 << 16
_BINARY_EXTENSIONS = {b"PAR1": ".parquet", b"PK\x03\x04": ".xlsx"}  # by the first bytes


def standard_input_stream() -> BinaryIO:
    """The bytes of standard input.

    The stream has its own buffer, because a thread may hold the lock of the buffer of ``sys.stdin``
    when the process ends.
    """
    try:
        descriptor = sys.stdin.fileno()
    except (OSError, ValueError):  # replaced by another stream
        return sys.stdin.buffer
    return os.fdopen(os.dup(descriptor), "rb")


def store_standard_input(stream: BinaryIO, folder: Path, config: DataConfig) -> Path:
    """Copy the rows on ``stream`` to a file in ``folder`` whose extension states their format.

    The format is data.format, or it is detected from the first line.

    Raises:
        DataError: there are no rows, or ``stream`` is a terminal.
        SystemResourceError: the file cannot be written.
    """
    if stream.isatty():
        raise DataError(
            "standard input is a terminal",
            where="data.train=-",
            hint="Redirect a file or a pipe, as in: cat rows.csv | bertft train -",
        )
    temporary_path = folder / "stdin"
    with convert_write_errors(temporary_path):
        folder.mkdir(parents=True, exist_ok=True)
        with temporary_path.open("wb") as file:
            shutil.copyfileobj(stream, file)
        if not temporary_path.stat().st_size:
            temporary_path.unlink()
            raise DataError("standard input is empty", where="data.train=-", hint="Pipe rows to it")
        path = temporary_path.with_suffix(_extension_of(temporary_path, config))
        return temporary_path.replace(path)


def _extension_of(path: Path, config: DataConfig) -> str:
    """The extension of the format of ``path``, whose name has none."""
    if config.format is not None:
        return next(iter(READERS[config.format].extensions), ".txt")
    with path.open("rb") as file:
        extension = _BINARY_EXTENSIONS.get(file.read(4))
        if extension is not None:
            return extension
    head = checked_head(path, config.encoding, _NAME)
    first_line = head.partition("\n")[0]
    if _JSON_OBJECT.match(head) or head.lstrip().startswith("["):
        return ".json"
    if config.task == "token_classification" and config.sentence is None:
        return ".conll"
    schema = build_row_schema(config, labelled=False)
    if config.task == "masked_lm" and _detect_table(first_line, schema, config) is None:
        return ".txt"
    return ".tsv" if "\t" in first_line else ".csv"


def has_column(stream: BinaryIO, name: str, config: DataConfig) -> bool:
    """Whether the rows on ``stream`` have a column ``name``; without waiting or consuming."""
    with open_text(io.BytesIO(_peek(stream)), config.encoding, "\n") as text:
        try:
            line, stated_separator, _ = _split_first_line(text, config.encoding)
        except DataError:  # reported when the rows are read
            return False
    line = line.lstrip()
    with contextlib.suppress(ValueError, RecursionError):
        content = json.loads(line)
        return isinstance(content, dict) and name in content
    separators = (*_separators(config), *filter(None, [stated_separator]))
    headers = (split_header(line, separator, config) for separator in separators)
    return any(name in names for names in headers if len(names) > 1)


def open_standard_input(
    stream: BinaryIO, config: DataConfig, keep: Any = None, is_table: bool = False
) -> PredictionInput:
    """The rows on ``stream``. Waits for the first line, from which the format is detected.

    ``stream`` is closed after the last row.

    Args:
        keep: columns for the output: None, ``all``, a name or a list of names.
        is_table: read a table, whatever the first line is.

    Raises:
        DataError: the input is empty or has no such columns, or the task needs several texts per
            row and the input is plain text.
    """
    text = open_text(stream, config.encoding, "\n")
    try:
        rows = _open_text(text, config, keep, is_table, is_live=not stream.seekable())
    except BaseException:
        text.close()
        raise

    def read(bad: BadRows) -> Iterator[Record]:
        with text:
            yield from rows.read(bad)

    return replace(rows, read=read)


def _open_text(
    text: TextIO, config: DataConfig, keep: Any, is_table: bool, is_live: bool
) -> PredictionInput:
    """The rows of ``text``; arguments and errors as for ``open_standard_input``."""
    schema = build_row_schema(config, labelled=False)
    first, stated_separator, lines = _split_first_line(text, config.encoding)
    has_separator_line = stated_separator is not None and config.format in _TABLE_FORMATS
    separator = stated_separator
    if not has_separator_line:
        separator = _detect_table(first, schema, config)
        is_table = is_table and config.format is None
        if is_table or config.format in _TABLE_SEPARATORS:
            separator = _TABLE_SEPARATORS.get(config.format or "", separator or ",")
    if separator is not None:
        separator = resolve_separator(config.separator) or separator
    detected = "csv" if has_separator_line else _detect_format(first, separator)
    match config.format or detected:
        case "json":
            return _open_json_document(schema, config, keep, lines, is_live)
        case "jsonl":
            return _open_json_lines(schema, config, keep, first, lines, is_live)
        case "csv" | "tsv":
            assert separator is not None
            return _open_table(
                schema, config, keep, first, lines, is_live, separator, has_separator_line
            )
        case "text":
            return _open_text_lines(schema, config, keep, lines, is_live)
    raise DataError(
        f"data.format={config.format} is not supported on standard input",
        where=_NAME,
        hint="Write the rows to a file and set input=<file>",
    )


def _detect_format(first_line: str, separator: str | None) -> str:
    """The format of a text that begins with ``first_line``; ``separator``: of its header."""
    if starts_json_document(first_line):
        return "json"
    if _JSON_OBJECT.match(first_line) or is_array_row(first_line) or not first_line:
        return "jsonl"
    return "text" if separator is None else "csv"


def _open_json_document(
    schema: RowSchema, config: DataConfig, keep: Any, lines: Iterable[str], is_live: bool
) -> PredictionInput:
    content, chunks = peek_first_object(lines, _NAME)
    kept_names = resolve_kept_columns(keep, object_keys([content]), _NAME)
    columns = with_kept_columns(schema.columns, kept_names)

    def read(bad: BadRows) -> Iterator[Record]:
        return read_json_chunks(chunks, columns, config.encoding, bad, is_stream=True)

    return PredictionInput(
        _NAME,
        schema,
        read,
        kept_names,
        unit="object",
        is_repeatable=False,
        is_live=is_live,
        note=f"{_NAME}: reading a JSON document",
    )


def _open_json_lines(
    schema: RowSchema,
    config: DataConfig,
    keep: Any,
    first: str,
    lines: Iterable[str],
    is_live: bool,
) -> PredictionInput:
    content = parse_json_object(first) or {}  # an error is reported with its line
    if is_array_row(first):
        content = as_object(json.loads(first)) or {}
    kept_names = resolve_kept_columns(keep, object_keys([content]), _NAME)
    columns = with_kept_columns(schema.columns, kept_names)

    def read(bad: BadRows) -> Iterator[Record]:
        return read_json_lines(lines, columns, config.encoding, bad, is_stream=True)

    return PredictionInput(_NAME, schema, read, kept_names, is_repeatable=False, is_live=is_live)


def _open_table(
    schema: RowSchema,
    config: DataConfig,
    keep: Any,
    first: str,
    lines: Iterable[str],
    is_live: bool,
    separator: str,
    has_separator_line: bool = False,
) -> PredictionInput:
    has_header = schema.columns.has_names if config.header is None else config.header
    names = split_header(first, separator, config) if has_header else None
    if config.sentence is not None and set(sentence_columns(config)) <= set(names or ()):
        raise DataError(
            "a table with one word per row is not supported on standard input",
            where=_NAME,
            hint="Write the rows to a file and set input=<file>",
        )
    kept_names = resolve_kept_columns(keep, names, _NAME)
    columns = with_kept_columns(schema.columns, kept_names)

    def read(bad: BadRows) -> Iterator[Record]:
        return read_csv(lines, columns, config, separator, bad, skip_first=has_separator_line)

    shown = SEPARATOR_NAMES.get(separator, repr(separator))
    note = f"{_NAME}: reading a table with columns separated by {shown}"
    return PredictionInput(
        _NAME, schema, read, kept_names, is_repeatable=False, is_live=is_live, note=note
    )


def _open_text_lines(
    schema: RowSchema, config: DataConfig, keep: Any, lines: Iterable[str], is_live: bool
) -> PredictionInput:
    columns = schema.columns
    if len(columns.text) > 1:
        raise DataError(
            f"the input is neither JSON Lines nor a table with the columns"
            f" {format_list(columns.text)}",
            where=_NAME,
            hint="Write one JSON object per line, or a table with a header; for other column names"
            " set columns=[<column>,<column>]",
        )
    resolve_kept_columns(keep, None, _NAME)

    def read(bad: BadRows) -> Iterator[Record]:
        for number, line in enumerate(iter_lines(lines, bad, config.encoding), start=1):
            bad.count_row()
            yield number, [line.rstrip("\r\n"), *[None] * len(columns.optional)]

    note = f"{_NAME}: reading plain text, one text per line"
    return PredictionInput(_NAME, schema, read, is_repeatable=False, is_live=is_live, note=note)


def _split_first_line(text: TextIO, encoding: str) -> tuple[str, str | None, Iterable[str]]:
    """The first line that is not blank, the separator that a line before it states, and all lines.

    The first line is without its end, and "" if there is none.
    """
    lines, read_lines = bounded_lines(text), list[str]()
    stated_separator: str | None = None
    try:
        for line in lines:
            read_lines.append(line)
            if not line.strip():
                continue
            if stated_separator is None:
                stated_separator = parse_separator_line(line)
                if stated_separator is not None:
                    continue
            return line.rstrip("\r\n"), stated_separator, chain(read_lines, lines)
    except UnicodeError as error:
        raise encoding_error(error, encoding, f"{_NAME}:{len(read_lines) + 1}") from error
    return "", stated_separator, read_lines


def _detect_table(line: str, schema: RowSchema, config: DataConfig) -> str | None:
    """The separator, if ``line`` is the header of a table; otherwise None."""
    for separator in _separators(config):
        names = split_header(line, separator, config)
        columns: ColumnSpec = schema.columns.resolve_alternatives(names)
        if len(names) > 1 and set(columns.text) <= set(names):
            return separator
    return None


def _separators(config: DataConfig) -> tuple[str, ...]:
    configured = resolve_separator(config.separator)
    return SEPARATORS if configured is None else (configured,)


def _peek(stream: BinaryIO) -> bytes:
    """The first bytes of ``stream`` that can be read without waiting, which are not consumed."""
    if stream.seekable():
        position = stream.tell()
        head = stream.read(_PEEKED_BYTES)
        stream.seek(position)
        return head
    try:
        is_ready, _, _ = select.select([stream], [], [], 0)
    except (OSError, ValueError):  # on Windows, pipes are not supported
        return b""
    peek = getattr(stream, "peek", None)
    return peek(_PEEKED_BYTES) if is_ready and peek is not None else b""
