"""Samples of large files: a part of a file, written as a small file of the same format.

    text          the beginning and blocks of lines that are evenly spaced in the file
    JSON          the first objects of a document, or the first articles of a SQuAD file
    Parquet       the first rows of row groups that are evenly spaced
    Arrow         rows in blocks that are evenly spaced
    others        the first rows, such as those of an Excel workbook

Every reader reads such a file as any other. ``FileSample.line`` returns the line in the original
file. A file that is small enough is its own sample.
"""

from __future__ import annotations

import bisect
import codecs
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from bertft.config.data import DataConfig
from bertft.config.data_files import compression_of, file_extension, strip_compression
from bertft.config.registry import READERS
from bertft.data.readers.arrow_files import open_batches
from bertft.data.readers.compressed_files import open_binary
from bertft.data.readers.json_documents import is_json_document
from bertft.data.readers.text_files import MAX_LINE_CHARACTERS, is_wide_encoding
from bertft.utils.safe_files import unreadable

__all__ = ["FileSample", "sample_file"]

_MAX_ROWS = 20_000  # of a file that is not text
_BLOCKS = 24
_HEAD_SHARE = 1 / 4  # of the sampled bytes
_MAX_SCANNED = 1 << 30  # bytes of a text file whose lines are counted
_SCAN_BYTES = 1 << 23
_MAX_HEAD = 4 * MAX_LINE_CHARACTERS  # bytes of a file whose first line is long
_MAX_START = 1 << 16  # bytes from which the kind of a JSON document is detected
_JSON_EXTENSIONS = (".json", ".jsonl", ".ndjson", "")
_BINARY_EXTENSIONS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
}
_BLANK_LINE = re.compile(rb"\n[ \t\r]*\n")
_MIN_BLANK_LINES = 1 / 4096  # per byte: sentences that are separated by blank lines
_JSON_SEPARATOR = re.compile(r"[ \t\r\n,]*")
_SQUAD_START = re.compile(r'\s*\{(?:\s*"[^"]*"\s*:\s*"[^"]*"\s*,)*\s*"data"\s*:\s*\[')
_ESCAPED = re.compile(r"\\.", re.DOTALL)
_LINE_END = re.compile(r"\r\n?|\n")
_ARRAY_START = re.compile(r"\s*\[")
_MIN_CUT_SHARE = 0.5  # of a text is before the last end of a line, unless lines are long
_MAX_CUT_CHARACTERS = 16  # a literal or an escape at the end of a text may be cut


@dataclass(frozen=True)
class FileSample:
    """A part of a file.

    Attributes:
        path: the file to read; the original file if it is read completely.
        size: bytes of the sample; of a Parquet or Arrow file, an estimate. 0: unknown.
        total_size: bytes of the original file.
        block_starts: (line in the sample, line in the original file) where each block starts.
        is_complete: whether the sample is the whole file.
        method: which part of the file it is, in words; empty if it is complete.
        total_rows: the number of rows of the file, if it is known.
        max_rows: rows of ``path`` that belong to the sample; None: all.
    """

    path: Path
    size: int
    total_size: int
    block_starts: Sequence[tuple[int, int]] = ((1, 1),)
    method: str = ""
    total_rows: int | None = None
    max_rows: int | None = None

    @property
    def is_complete(self) -> bool:
        return not self.method

    def line(self, number: int) -> int:
        """The line of the original file that is line ``number`` of the sample."""
        index = bisect.bisect_right(self.block_starts, (number, 1 << 62)) - 1
        sample_start, file_start = self.block_starts[max(0, index)]
        return number - sample_start + file_start


def sample_file(
    path: Path, folder: Path, max_bytes: int, config: DataConfig, complete_bytes: int = 0
) -> FileSample:
    """A sample of ``path`` with about ``max_bytes``.

    Args:
        folder: an existing folder for the sample.
        config: data.format, encoding, quoting and escapes of the file.
        complete_bytes: files up to this size, or up to ``max_bytes``, are read completely.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        size = path.stat().st_size
        kind = config.format or _BINARY_EXTENSIONS.get(path.suffix.lower())
        target = folder / strip_compression(path).name
        if kind == "parquet":
            return _sample_parquet(path, target, size, max_bytes)
        if kind == "arrow":
            return _sample_arrow(path, target, size, max_bytes)
        if compression_of(path) is not None:
            return _sample_compressed(path, target, size, max_bytes, config)
        if size <= max(max_bytes, complete_bytes):
            return FileSample(path, size, size)
        if not _is_text(path, config):
            method = f"the first {_MAX_ROWS:,} rows"
            return FileSample(path, 0, size, method=method, max_rows=_MAX_ROWS)
        with path.open("rb") as file:
            return _sample_text(file, path, target, size, max_bytes, config)
    except OSError as error:
        raise unreadable(error, path) from error
    except pa.ArrowException:
        return FileSample(path, size, size)  # reading it reports the problem


def _is_text(path: Path, config: DataConfig) -> bool:
    specs = READERS.specs()
    if config.format is not None:
        return specs[config.format].text
    extension = file_extension(path)
    named = [spec.text for spec in specs.values() if extension in spec.extensions]
    return not named or any(named)


def _sample_compressed(
    path: Path, target: Path, size: int, max_bytes: int, config: DataConfig
) -> FileSample:
    """The beginning of the decompressed content."""
    if not _is_text(path, config):
        return FileSample(path, size, size)  # not supported: opening it reports that
    with open_binary(path) as file:
        head = file.read(max_bytes)
    content = head if len(head) < max_bytes else _cut_beginning(head, path, config)
    if content is None:
        return FileSample(path, size, size)
    target.write_bytes(content)
    method = "" if content is head else "the beginning"
    return FileSample(target, len(content), size, method=method)


def _sample_text(
    file: BinaryIO, path: Path, target: Path, size: int, max_bytes: int, config: DataConfig
) -> FileSample:
    head = file.read(int(max_bytes * _HEAD_SHARE))
    blocks: list[tuple[int, bytes]] = []
    is_document = bool(_document_start(head, path, config))
    # A block could begin between a backslash and the character that it escapes.
    if not is_wide_encoding(config.encoding) and not is_document and not config.escapes:
        is_quoted = _is_quoted(path, config)
        blocks = _LineBlocks(file, head, size, max_bytes, is_quoted).read()
    if sum(len(content) for _, content in blocks) < _MIN_CUT_SHARE * len(head):
        # A document, or a long line.
        file.seek(0)
        head = file.read(max_bytes)
        content = _cut_beginning(head, path, config)
        if content is None:
            content = _cut_beginning(head + file.read(_MAX_HEAD), path, config)
        if content is None:
            return FileSample(path, size, size)  # a line that is too long: the reader reports it
        blocks = [(1, content)]
    starts, number = [], 1
    with target.open("wb") as output:
        for first_line, content in blocks:
            starts.append((number, first_line))
            number += content.count(b"\n")
            output.write(content)
    method = "the beginning"
    if len(blocks) > 1:
        part = "" if size <= _MAX_SCANNED else f" of its first {_MAX_SCANNED:,} bytes"
        method = f"the beginning and {len(blocks) - 1} evenly spaced blocks{part}"
    written = sum(len(content) for _, content in blocks)
    return FileSample(target, written, size, starts, method)


def _document_start(head: bytes, path: Path, config: DataConfig) -> str:
    """The text before the first value of a JSON document that is not JSON Lines; "" if it is none.

    The values are the elements of an array, the articles of a SQuAD file, or objects.
    """
    is_json = file_extension(path) in _JSON_EXTENSIONS or config.format in ("json", "squad")
    if not is_json or config.format == "jsonl":
        return ""
    text = head[:_MAX_START].decode("utf-8-sig", "replace")
    if (match := _SQUAD_START.match(text) or _ARRAY_START.match(text)) is not None:
        return match[0]
    return " " if is_json_document(text) else ""


def _cut_beginning(head: bytes, path: Path, config: DataConfig) -> bytes | None:
    """The beginning of a file up to the end of a line or a JSON value; None if there is no end."""
    start = _document_start(head, path, config)
    encoding = "utf-8-sig" if config.encoding.lower() == "utf-8" else config.encoding
    try:
        text = codecs.getincrementaldecoder(encoding)("surrogateescape").decode(head)
        if start:
            end = _end_of_values(text, len(start) if start.strip() else 0)
            if end is None:
                return None
            text = text[:end] + "]" * start.endswith("[") + "}" * ("{" in start)
        else:
            is_quoted = _is_quoted(path, config)
            end = max(_line_ends(text, is_quoted, config.escapes), default=0)
            if end < _MIN_CUT_SHARE * len(text):
                return None  # a line that may be too long follows
            text = text[:end]
        return text.encode(encoding.removesuffix("-sig"), "surrogateescape") or None
    except (UnicodeError, LookupError):  # the reader reports them
        return None


def _end_of_values(text: str, start: int) -> int | None:
    """Where the last complete value of an array that begins at ``start`` ends.

    None if there is none, or if the text has an error that is not caused by its end.
    """
    decoder, end = json.JSONDecoder(), None
    while True:
        match = _JSON_SEPARATOR.match(text, start)
        assert match is not None
        try:
            _, start = decoder.raw_decode(text, match.end())
        except json.JSONDecodeError as error:
            is_cut = error.msg.startswith("Unterminated string") or (
                error.pos >= len(text) - _MAX_CUT_CHARACTERS
            )
            return end if is_cut else None
        except (ValueError, RecursionError):
            return None
        end = start


def _is_quoted(path: Path, config: DataConfig) -> bool:
    """Whether fields in double quotes can contain line breaks."""
    if config.quoting is not None:
        return config.quoting
    return config.format == "csv" or (config.format is None and file_extension(path) == ".csv")


def _line_ends(text: str, is_quoted: bool, escapes: bool) -> Iterator[int]:
    """Where the lines of ``text`` end, outside of quoted fields."""
    quotes = start = 0
    for match in _LINE_END.finditer(text):  # without a list of the lines, of which there are many
        end = match.end()
        if is_quoted and escapes:
            quotes += _ESCAPED.sub("", text[start:end]).count('"')
        elif is_quoted:
            quotes += text.count('"', start, end)
        start = end
        if quotes % 2 == 0:
            yield end


class _LineBlocks:
    """Blocks of whole lines of a text file, with the number of the first line of each.

    A block of a quoted table begins and ends outside of quoted fields, which can have line breaks:
    an even number of quotes is before it. A block of a file whose sentences are separated by blank
    lines begins and ends at one.
    """

    def __init__(
        self,
        file: BinaryIO,
        head: bytes,
        size: int,
        max_bytes: int,
        is_quoted: bool,
    ) -> None:
        self._file, self._head, self._size = file, head, min(size, _MAX_SCANNED)
        self._has_end = size <= _MAX_SCANNED
        self._max_bytes, self._is_quoted = max_bytes, is_quoted
        blank_lines = len(_BLANK_LINE.findall(head))
        self._has_blank_lines = blank_lines > _MIN_BLANK_LINES * len(head)
        self._lines = self._quotes = 0  # before the position

    def read(self) -> list[tuple[int, bytes]]:
        """(number of the first line, content) of each block; empty if the head has no line end."""
        head = self._cut(self._head, 0)
        if not head:
            return []
        blocks = [(1, head)]
        self._advance(head)
        position = len(head)
        length = (self._max_bytes - len(head)) // _BLOCKS
        for number in range(1, _BLOCKS + 1):
            start = len(head) + (self._size - length - len(head)) * number // _BLOCKS
            if start < position:
                continue
            self._file.seek(position)
            self._skip(start - position)
            content = self._file.read(min(length, self._size - start))
            position = start + len(content)
            first = self._boundaries(content, self._quotes)
            begin = next(first, None)
            if begin is None:
                self._advance(content)
                continue
            self._advance(content[:begin])
            rest = content[begin:]
            is_end = self._has_end and position >= self._size
            block = rest if is_end else self._cut(rest, self._quotes)
            if block:
                blocks.append((self._lines + 1, block))
            self._advance(rest)
        return blocks

    def _skip(self, count: int) -> None:
        while count > 0:
            content = self._file.read(min(count, _SCAN_BYTES))
            if not content:
                return
            self._advance(content)
            count -= len(content)

    def _advance(self, content: bytes) -> None:
        self._lines += content.count(b"\n")
        if self._is_quoted:
            self._quotes += content.count(b'"')

    def _cut(self, content: bytes, quotes: int) -> bytes:
        """``content`` up to its last boundary."""
        return content[: max(self._boundaries(content, quotes), default=0)]

    def _boundaries(self, content: bytes, quotes: int) -> Iterator[int]:
        """Where a row of ``content`` ends and the next begins; ``quotes``: quotes before it."""
        if self._has_blank_lines:
            for match in _BLANK_LINE.finditer(content):
                yield match.end()
            return
        end = 0
        while (stop := content.find(b"\n", end) + 1) > 0:
            if self._is_quoted:
                quotes += content.count(b'"', end, stop)
            end = stop
            if quotes % 2 == 0:
                yield end


def _sample_parquet(path: Path, target: Path, size: int, max_bytes: int) -> FileSample:
    from pyarrow import parquet

    with parquet.ParquetFile(path, memory_map=True) as file:
        metadata = file.metadata
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        content_bytes = sum(group.total_byte_size for group in groups)
        total = metadata.num_rows
        if total <= _MAX_ROWS and content_bytes <= max_bytes:
            return FileSample(path, size, size, total_rows=total)
        row_bytes = max(1, content_bytes // max(1, total))
        rows = max(1, min(_MAX_ROWS, max_bytes // row_bytes))
        starts = [0]
        for group in groups:
            starts.append(starts[-1] + group.num_rows)
        chosen = [len(groups) * number // _BLOCKS for number in range(_BLOCKS)]
        chosen = sorted(set(chosen))
        per_group = max(1, rows // len(chosen))
        batches, block_starts, number = [], [], 1
        for index in chosen:
            batch = next(file.iter_batches(batch_size=per_group, row_groups=[index]), None)
            if batch is None:
                continue
            batches.append(batch)
            block_starts.append((number, starts[index] + 1))
            number += batch.num_rows
        with parquet.ParquetWriter(target, batches[0].schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
    where = "the first row group" if len(groups) == 1 else f"{len(chosen)} row groups"
    method = f"the first rows of {where}"
    return FileSample(target, row_bytes * (number - 1), size, block_starts, method, total)


def _sample_arrow(path: Path, target: Path, size: int, max_bytes: int) -> FileSample:
    with open_batches(path) as (schema, batches):
        total = sum(batch.num_rows for batch in batches)
    if total <= _MAX_ROWS and size <= max_bytes:
        return FileSample(path, size, size, total_rows=total)
    row_bytes = max(1, size // max(1, total))
    rows = max(1, min(_MAX_ROWS, max_bytes // row_bytes))
    per_block = max(1, rows // _BLOCKS)
    wanted = iter(sorted({total * number // _BLOCKS for number in range(_BLOCKS)}))
    start, block_starts, number, position = next(wanted), [], 1, 0
    with (
        open_batches(path) as (schema, batches),
        pa.OSFile(str(target), "wb") as sink,
        pa.ipc.new_file(sink, schema) as writer,
    ):
        for batch in batches:
            while start is not None and position <= start < position + batch.num_rows:
                part = batch.slice(start - position, per_block)
                part.validate(full=True)  # a damaged file could make the process crash
                writer.write_batch(part)
                block_starts.append((number, start + 1))
                number += part.num_rows
                start = next(wanted, None)
            position += batch.num_rows
    method = f"rows in {len(block_starts)} evenly spaced blocks"
    return FileSample(target, row_bytes * (number - 1), size, block_starts, method, total)
