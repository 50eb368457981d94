"""Text files in chunks of whole lines, as bytes, for readers of blocks."""

from __future__ import annotations

import io
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, TextIO, TypeVar

import numpy as np
import pyarrow as pa

from bertft.data.readers.compressed_files import open_binary
from bertft.utils.background import map_ahead, prefetch

__all__ = [
    "CHUNK_BYTES",
    "count_lines",
    "open_rest",
    "parse_chunks",
    "read_chunks",
    "skip_bytes",
]

Parsed = TypeVar("Parsed")
CHUNK_BYTES = 1 << 21
_MAX_THREADS = 4  # each holds a chunk and its columns
_PART_BYTES = 1 << 16
_LINE_FEED, _CARRIAGE_RETURN = ord("\n"), ord("\r")


def read_chunks(file: BinaryIO) -> Iterator[bytes]:
    """Whole lines; an empty chunk ends them before a line that is longer than a chunk.

    The last chunk may have no line feed at its end.
    """
    while content := file.read(CHUNK_BYTES):
        if not content.endswith(b"\n"):
            rest = file.readline(CHUNK_BYTES)
            if len(rest) == CHUNK_BYTES and not rest.endswith(b"\n"):
                yield b""
                return
            content += rest
        yield content


def parse_chunks(
    parse: Callable[[bytes], Parsed], chunks: Iterable[bytes]
) -> Generator[tuple[bytes, Parsed], None, None]:
    """Each chunk and the result of ``parse``, which several threads call for the next chunks.

    Another thread reads the chunks.
    """
    # The number of cores that this process may use; OMP_NUM_THREADS reduces it.
    threads = min(pa.cpu_count(), _MAX_THREADS)
    if threads == 1:
        yield from map_ahead(parse, chunks, 1)
        return
    with closing(prefetch(chunks)) as read_ahead:
        yield from map_ahead(parse, read_ahead, threads)


def count_lines(chunk: bytes) -> int | None:
    """The number of line feeds; ``chunk`` ends with one.

    None if a carriage return is not at the end of its line, or there is a NUL byte.
    """
    if b"\0" in chunk:
        return None
    content, has_returns = np.frombuffer(chunk, np.uint8), b"\r" in chunk
    line_count = 0
    # Parts fit in the cache of a core. Comparing a whole chunk takes five times as long.
    for start in range(0, len(content), _PART_BYTES):
        part = content[start : start + _PART_BYTES + 1]  # with the byte after it
        is_feed = part == _LINE_FEED
        line_count += int(np.count_nonzero(is_feed[:_PART_BYTES]))
        if has_returns and ((part[:-1] == _CARRIAGE_RETURN) & ~is_feed[1:]).any():
            return None
    return line_count


def open_rest(path: Path, offset: int, newline: str) -> TextIO:
    """The text of a UTF-8 file after its first ``offset`` bytes."""
    file = open_binary(path)
    skip_bytes(file, offset)
    return io.TextIOWrapper(file, "utf-8", errors="surrogateescape", newline=newline)


def skip_bytes(file: BinaryIO, size: int) -> None:
    """Skip ``size`` bytes at the beginning of a file, which may not be seekable."""
    if file.seekable():
        file.seek(size)
        return
    while size > 0:
        size -= len(file.read(min(size, CHUNK_BYTES)))
