"""Text files in chunks of whole lines, as bytes, for readers of blocks."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TextIO

from bertft.data.readers.compressed_files import open_binary

__all__ = ["CHUNK_BYTES", "has_simple_lines", "open_rest", "read_chunks", "skip_bytes"]

CHUNK_BYTES = 1 << 22


def read_chunks(file: BinaryIO) -> Iterator[bytes]:
    """Whole lines; an empty chunk ends them before a line that is longer than a chunk.

    The last chunk may have no line feed at its end.
    """
    rest = b""
    while content := file.read(CHUNK_BYTES):
        end = content.rfind(b"\n") + 1
        if not end:
            yield b""
            return
        yield rest + content[:end]
        rest = content[end:]
    if rest:
        yield rest


def has_simple_lines(chunk: bytes) -> bool:
    """Whether carriage returns are only at the ends of lines, and there are no NUL bytes."""
    returns = chunk.count(b"\r")
    return b"\0" not in chunk and (not returns or returns == chunk.count(b"\r\n"))


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
