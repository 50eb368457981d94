"""Files compressed with gzip, bzip2, xz or Zstandard, read as their content.

A small file can expand to any size. It is read up to a limit that text does not reach:

    max(64 MiB, 200 · size of the compressed file)
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from bertft.config.data_files import compression_of
from bertft.errors import DataError

__all__ = ["MAX_EXPANSION", "expansion_limit", "open_binary"]

MAX_EXPANSION = 200  # times the size of the compressed file
_MIN_LIMIT = 1 << 26  # bytes
_MAX_XZ_MEMORY = 1 << 28  # bytes; xz -9 needs 65 MiB
_CHUNK_BYTES = 1 << 16


def expansion_limit(compressed_bytes: int) -> int:
    """The bytes to which a compressed file of this size may expand."""
    return max(_MIN_LIMIT, MAX_EXPANSION * compressed_bytes)


def open_binary(path: Path) -> io.BufferedReader:
    """The content of ``path``, decompressed if its name ends in .gz, .bz2, .xz or .zst.

    Reading raises DataError for a damaged file, and for one that expands beyond the limit. Raises
    OSError if the file cannot be opened.
    """
    compression = compression_of(path)
    if compression is None:
        return path.open("rb")
    raw = _DecompressedFile(path, compression)
    return io.BufferedReader(raw, _CHUNK_BYTES)


class _Decompressor(Protocol):
    def read(self, size: int, /) -> bytes: ...

    def close(self) -> None: ...


class _DecompressedFile(io.RawIOBase):
    """The content of a compressed file, up to the limit."""

    def __init__(self, path: Path, compression: str) -> None:
        self._path, self._compression = path, compression
        self._read_bytes = 0
        self._file = path.open("rb")
        self._limit = expansion_limit(path.stat().st_size)
        self._content = _open_content(self._file, compression)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        try:
            content = self._content.read(len(buffer))
        except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
            raise DataError(
                f"cannot be decompressed with {self._compression} ({error})",
                where=str(self._path),
                hint="The file may be truncated or have another format: check it, or fetch it"
                " again",
            ) from error
        self._read_bytes += len(content)
        if self._read_bytes > self._limit:
            raise DataError(
                f"expands to more than {self._limit:,} bytes, the limit for a compressed file of"
                " this size",
                where=str(self._path),
                hint="If this is right, decompress it and use the decompressed file",
            )
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        if not self.closed:
            self._content.close()
            self._file.close()
        super().close()


def _open_content(file: BinaryIO, compression: str) -> _Decompressor:
    if compression == "gzip":
        return gzip.GzipFile(fileobj=file)
    if compression == "bzip2":
        return bz2.BZ2File(file)
    if compression == "xz":
        return _XzFile(file)
    import pyarrow as pa

    content: _Decompressor = pa.CompressedInputStream(file, "zstd")
    return content


class _XzFile:
    """The content of an xz file. Unlike lzma.LZMAFile, it limits the memory of the decoder."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decoder: lzma.LZMADecompressor | None = None
        self._pending = b""

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes; b"" at the end."""
        while True:
            if self._decoder is None or self._decoder.eof:
                if self._decoder is not None:
                    self._pending = self._decoder.unused_data.lstrip(b"\0")
                self._pending = self._pending or self._file.read(_CHUNK_BYTES).lstrip(b"\0")
                if not self._pending and self._decoder is not None:
                    return b""
                self._decoder = lzma.LZMADecompressor(memlimit=_MAX_XZ_MEMORY)
            elif self._decoder.needs_input:
                self._pending = self._file.read(_CHUNK_BYTES)
                if not self._pending:
                    raise EOFError("the file is truncated")
            content = self._decoder.decompress(self._pending, size)
            self._pending = b""
            if content:
                return content

    def close(self) -> None:
        """Close the decoder; the file is closed by its owner."""
