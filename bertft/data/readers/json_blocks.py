"""Large JSON Lines files, read in blocks of columns where their lines are well-formed.

The first lines of a file are read one by one, which checks the keys. A later chunk is parsed by
Arrow if each line begins with an object and the texts and labels have one type; any other chunk is
read line by line.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import json as arrow_json

from bertft.config.data import DataConfig
from bertft.config.registry import TASKS
from bertft.data.column_blocks import ColumnBlock
from bertft.data.readers import chunks
from bertft.data.readers.chunks import (
    count_lines,
    open_rest,
    parse_chunks,
    read_chunks,
)
from bertft.data.readers.compressed_files import open_binary
from bertft.data.readers.json_lines import (
    KEY_SAMPLE_OBJECTS,
    parse_lines,
    read_json_lines,
    read_json_lines_file,
)
from bertft.data.readers.text_files import iter_lines
from bertft.data.rows import BadRows, RowError
from bertft.data.schema import ColumnSpec, Record

__all__ = ["read_json_blocks"]

_OTHER_ENCODINGS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, b"\0")
_LABEL_TYPES = (pa.string(), pa.int64(), pa.float64())
_LINE_FEED, _OBJECT_START = ord("\n"), ord("{")
_MAX_EXACT = 1 << 53  # whole numbers up to this are exact as float64


def read_json_blocks(
    path: Path, columns: ColumnSpec, config: DataConfig, bad: BadRows
) -> Iterator[Record | ColumnBlock]:
    """As ``read_json_lines_file``, with blocks in place of records."""
    names = columns.all_columns
    is_supported = (
        config.encoding.lower() in ("utf-8", "utf8")
        and TASKS[config.task].label is not None
        and len(columns.label) <= 1
        and not (columns.text_alternatives or columns.label_alternatives)
        and all(isinstance(name, str) and "." not in name for name in names)
    )
    with open_binary(path) as file:
        first = _read_first_lines(file) if is_supported else b""
        if not first.strip() or first.startswith(_OTHER_ENCODINGS):
            yield from read_json_lines_file(path, columns, config, bad)
            return
        text = first.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
        yield from read_json_lines(io.StringIO(text, newline="\n"), columns, config.encoding, bad)
        requested = [str(name) for name in names]
        parser = _ChunkParser(requested, str(columns.label[0]) if columns.label else None)
        offset, line = len(first), 1 + first.count(b"\n")
        with closing(parse_chunks(parser.parse, read_chunks(file))) as parsed_chunks:
            for chunk, block in parsed_chunks:
                if not chunk:
                    with open_rest(path, offset, "\n") as rest:
                        yield from _read_lines(rest, line, requested, config, bad)
                    return
                if block is not None:
                    bad.count_row(block.size)
                    yield replace(block, first_line=line)
                    line += block.size
                else:
                    text = chunk.decode("utf-8", "surrogateescape")
                    lines = io.StringIO(text, newline="\n")
                    yield from _read_lines(lines, line, requested, config, bad)
                    line += chunk.count(b"\n")
                offset += len(chunk)


def _read_first_lines(file: BinaryIO) -> bytes:
    """The lines whose keys are the columns; b"" if one of them is longer than a chunk."""
    lines: list[bytes] = []
    size = objects = 0
    while objects < KEY_SAMPLE_OBJECTS and size < chunks.CHUNK_BYTES:
        line = file.readline(chunks.CHUNK_BYTES)
        if len(line) == chunks.CHUNK_BYTES and not line.endswith(b"\n"):
            return b""
        if not line:
            break
        lines.append(line)
        size += len(line)
        objects += not line.isspace()
    return b"".join(lines)


def _read_lines(
    lines: Iterable[str], first_line: int, requested: list[str], config: DataConfig, bad: BadRows
) -> Iterator[Record]:
    """The records of lines after the first chunk."""
    checked_lines = iter_lines(lines, bad, config.encoding, first_line - 1)
    for number, content in parse_lines(checked_lines, bad, first_line):
        if isinstance(content, RowError):
            bad.add(number, content)
        else:
            yield number, [content.get(name) for name in requested]


class _ChunkParser:
    """Parses chunks of lines with the same keys.

    Args:
        names: the keys that are read. Their values are strings, except those of ``label``.
        label: the key of the label, if there is one.
    """

    def __init__(self, names: list[str], label: str | None) -> None:
        self._names, self._label = names, label
        self._label_types = _LABEL_TYPES[:1] if label is None else _LABEL_TYPES

    def parse(self, chunk: bytes) -> ColumnBlock | None:
        """The rows in ``chunk``; None if they are not simple. Several threads may call it."""
        if not chunk.endswith(b"\n"):
            chunk += b"\n"
        count = count_lines(chunk) if chunk.startswith(b"{") else None
        if count is None:
            return None
        content = np.frombuffer(chunk, np.uint8)
        line_ends = np.flatnonzero(content == _LINE_FEED)
        if not (content[line_ends[:-1] + 1] == _OBJECT_START).all():
            return None
        label_types = self._label_types
        for label_type in label_types:
            table = self._parse_as(chunk, label_type)
            if table is not None and table.num_rows == count:
                # The type of the labels rarely changes within a file.
                self._label_types = (label_type, *(t for t in label_types if t != label_type))
                columns = [
                    table.column(name).combine_chunks() if name in table.column_names else None
                    for name in self._names
                ]
                return ColumnBlock(0, columns, count)
        return None

    def _parse_as(self, chunk: bytes, label_type: pa.DataType) -> pa.Table | None:
        """The values of ``chunk`` with labels of this type; None if it has other values.

        Arrow does not check whether texts are UTF-8; ``parse_text_block`` does.
        """
        fields = [
            (name, label_type if name == self._label else pa.string()) for name in self._names
        ]
        try:
            table = arrow_json.read_json(
                pa.BufferReader(chunk),
                arrow_json.ReadOptions(use_threads=False, block_size=len(chunk) + 1),
                # The other keys are parsed too, because a key that is repeated is an error.
                arrow_json.ParseOptions(explicit_schema=pa.schema(dict(fields).items())),
            )
        except pa.ArrowInvalid:
            return None
        if pa.types.is_floating(label_type):
            largest = pc.max(pc.abs(table.column(self._label))).as_py()
            if largest is not None and not largest <= _MAX_EXACT:
                return None
        return table
