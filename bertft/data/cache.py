"""A cache of Arrow files: written atomically, and verified by a checksum when they are read.

    <folder>/<key>.<crc32>.arrow

The file name contains the checksum of its bytes, so that one rename publishes both: several
processes can write one key, and a damaged file is detected, removed and written again.
Memory is bounded by a record batch, not by the number of rows.
"""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import pyarrow as pa

from bertft.utils.atomic_io import (
    atomic_write_named,
    convert_write_errors,
    remove_stale_temporaries,
)
from bertft.utils.safe_files import open_regular_file

__all__ = [
    "cache_folder",
    "load_cached",
    "store_cached",
    "write_arrow_file",
]

Content = TypeVar("Content")
_KEY_FIELD = b"bertft.key"
_STALE_SECONDS = 3600.0  # a file that is being written changes more often than this
_WRITE_HINT = "Free disk space, or set data.cache=<folder> to another folder"
MetadataFactory = Callable[[], Mapping[bytes, bytes]]


def cache_folder(setting: str | None) -> Path:
    """``data.cache``, else $BERTFT_CACHE, else ~/.cache/bertft."""
    return Path(setting or os.environ.get("BERTFT_CACHE") or "~/.cache/bertft").expanduser()


def load_cached(
    folder: Path,
    key: str,
    read: Callable[[Path], Content],
    make_key_end: Callable[[], str] | None = None,
) -> Content | None:
    """The result of ``read`` on the file under ``key``; None if there is no intact file.

    A file is removed if it is damaged, was written under another key, or ``read`` raises
    pa.ArrowInvalid. ``make_key_end`` as for ``store_cached``; it is called when a file has been
    found and verified.
    """
    end = "" if make_key_end is not None else "."
    for path in sorted(folder.glob(f"{key}{end}*.arrow")):
        with suppress(OSError, pa.ArrowException):
            key_in_name, _, checksum = path.stem.partition(".")
            with open_regular_file(path) as file:
                is_intact = _checksum(file) == checksum
            if is_intact and _read_stored_key(path) == key_in_name:
                if make_key_end is not None and key_in_name != key + make_key_end():
                    continue
                return read(path)
        with suppress(OSError):
            path.unlink()
    return None


def store_cached(
    folder: Path,
    key: str,
    batches: Iterable[pa.RecordBatch],
    schema: pa.Schema | None = None,
    make_metadata: MetadataFactory | None = None,
    make_key_end: Callable[[], str] | None = None,
) -> Path:
    """Write ``batches`` under ``key``, atomically. Raises SystemResourceError if that fails.

    ``schema`` and ``make_metadata`` as for ``write_arrow_file``. ``make_key_end`` is called after
    the last batch; its result is appended to ``key``.
    """
    full_key = key

    def make_metadata_with_key() -> Mapping[bytes, bytes]:
        nonlocal full_key
        full_key = key + ("" if make_key_end is None else make_key_end())
        metadata = {} if make_metadata is None else make_metadata()
        return {**metadata, _KEY_FIELD: full_key.encode()}

    def write(file: BinaryIO) -> str:
        sink = _ChecksumWriter(file)
        metadata = make_metadata if make_key_end is None else make_metadata_with_key
        write_arrow_file(batches, sink, schema, metadata, key)
        return f"{full_key}.{sink.checksum}.arrow"

    with convert_write_errors(folder, _WRITE_HINT):
        folder.mkdir(parents=True, exist_ok=True)
        remove_stale_temporaries(folder, min_age=_STALE_SECONDS)
        return atomic_write_named(folder, key[:16], write)


def write_arrow_file(
    batches: Iterable[pa.RecordBatch],
    sink: Any,
    schema: pa.Schema | None = None,
    make_metadata: MetadataFactory | None = None,
    key: str = "",
) -> None:
    """Write one Arrow IPC file; ``schema`` is that of the first batch unless given.

    ``key`` is stored in the schema's metadata, so that a file can be checked against its key.
    ``make_metadata`` is called after the last batch; its result is the metadata of one more, empty
    batch.
    """
    remaining_batches = iter(batches)
    if schema is None:
        first_batch = next(remaining_batches)
        schema = first_batch.schema
        remaining_batches = chain([first_batch], remaining_batches)
    keyed_schema = schema.with_metadata({**(schema.metadata or {}), _KEY_FIELD: key.encode()})
    with pa.ipc.new_file(sink, keyed_schema) as writer:
        for batch in remaining_batches:
            writer.write_batch(batch)
        if make_metadata is not None:
            empty = pa.RecordBatch.from_pylist([], schema=schema)
            writer.write_batch(empty, custom_metadata=dict(make_metadata()))


def _read_stored_key(path: Path) -> str:
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source)
        metadata = dict(reader.schema.metadata or {})
        if reader.num_record_batches:  # a key that is complete only after the last batch is there
            _, last = reader.get_batch_with_custom_metadata(reader.num_record_batches - 1)
            metadata |= last or {}
    return metadata.get(_KEY_FIELD, b"").decode("ascii", "replace")


class _ChecksumWriter(io.RawIOBase):
    """Writes to ``file``, and computes the checksum of what is written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._value = file, 0

    @property
    def checksum(self) -> str:
        return f"{self._value:08x}"

    def writable(self) -> bool:
        return True

    def write(self, block: Any, /) -> int:
        self._value = zlib.crc32(block, self._value)
        return self._file.write(block)


def _checksum(file: BinaryIO) -> str:
    """crc32 of the bytes from the current position to the end."""
    value = 0
    while block := file.read(1 << 22):
        value = zlib.crc32(block, value)
    return f"{value:08x}"
