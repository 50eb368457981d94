"""A cache of Arrow files: written atomically, and verified by a checksum when they are read.

    <folder>/<key>.<crc32>.arrow

The file name contains the checksum of its bytes, so that one rename publishes both: two processes
can write one key at the same time, and a damaged file is detected, removed and written again.
Memory is bounded by a record batch, not by the number of rows.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import pyarrow as pa

from bertft.errors import SystemResourceError
from bertft.utils.safe_files import open_regular_file

__all__ = [
    "cache_folder",
    "load_cached",
    "store_cached",
    "write_arrow_file",
]
try:
    import fcntl
except ImportError:  # pragma: no cover
    fcntl = None  # type: ignore[assignment]
Content = TypeVar("Content")
_KEY_FIELD = b"bertft.key"
_STALE_SECONDS = 60.0  # age from which a temporary file may be left from a killed process
MetadataFactory = Callable[[], Mapping[bytes, bytes]]


def cache_folder(setting: str | None) -> Path:
    """``data.cache``, else $BERTFT_CACHE, else ~/.cache/bertft."""
    return Path(setting or os.environ.get("BERTFT_CACHE") or "~/.cache/bertft").expanduser()


def load_cached(folder: Path, key: str, read: Callable[[Path], Content]) -> Content | None:
    """The result of ``read`` on the file under ``key``; None if there is no intact file.

    A file is removed if it is damaged, was written under another key, or ``read`` raises
    pa.ArrowInvalid.
    """
    for path in sorted(folder.glob(f"{key}.*.arrow")):
        with suppress(OSError, pa.ArrowException):
            with open_regular_file(path) as file:
                is_intact = _checksum(file) == path.suffixes[-2].removeprefix(".")
            if is_intact and _read_stored_key(path) == key:
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
) -> Path:
    """Write ``batches`` under ``key``, atomically. Raises SystemResourceError if that fails.

    ``schema`` and ``make_metadata`` as for ``write_arrow_file``.
    """
    with _report_write_errors(folder), _temporary_file(folder, key) as (file, path):
        write_arrow_file(batches, file, schema, make_metadata, key)
        file.flush()
        os.fsync(file.fileno())
        file.seek(0)
        final = folder / f"{key}.{_checksum(file)}.arrow"
        os.replace(path, final)
    return final


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
    rest = iter(batches)
    first = None
    if schema is None:
        first = next(rest)
        schema = first.schema
    keyed = schema.with_metadata({**(schema.metadata or {}), _KEY_FIELD: key.encode()})
    with pa.ipc.new_file(sink, keyed) as writer:
        if first is not None:
            writer.write_batch(first)
        for batch in rest:
            writer.write_batch(batch)
        if make_metadata is not None:
            empty = pa.RecordBatch.from_pylist([], schema=schema)
            writer.write_batch(empty, custom_metadata=dict(make_metadata()))


@contextmanager
def _report_write_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise SystemResourceError(
            "the disk is full" if full else f"cannot write: {error.strerror or error}",
            where=str(folder),
            hint="Free disk space, or set data.cache=<folder> to another folder",
        ) from error


@contextmanager
def _temporary_file(folder: Path, key: str) -> Iterator[tuple[BinaryIO, Path]]:
    """A file next to the final one, which is deleted afterwards unless it was renamed.

    It is locked while it is written, so that other processes, also on other machines that share the
    folder, can distinguish it from a file that a killed process left.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _remove_stale_files(folder)
    descriptor, name = tempfile.mkstemp(prefix=f".{key[:16]}-", suffix=".tmp", dir=folder)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            _try_lock(file)
            yield file, Path(name)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(name)


def _remove_stale_files(folder: Path) -> None:
    """Remove temporary files that no process is writing."""
    for path in folder.glob(".*.tmp"):
        with suppress(OSError):
            # A new file is locked shortly after it is created.
            if time.time() - path.stat().st_mtime > _STALE_SECONDS and stat.S_ISREG(
                path.lstat().st_mode
            ):
                with path.open("rb+") as file:
                    if _try_lock(file):
                        path.unlink()


def _try_lock(file: BinaryIO) -> bool:
    """Lock ``file``; False if another process holds the lock, or locks are not supported."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _read_stored_key(path: Path) -> str:
    with pa.memory_map(str(path)) as source:
        metadata = pa.ipc.open_file(source).schema.metadata or {}
    return metadata.get(_KEY_FIELD, b"").decode("ascii", "replace")


def _checksum(file: BinaryIO) -> str:
    """crc32 of the bytes from the current position to the end."""
    value = 0
    while block := file.read(1 << 22):
        value = zlib.crc32(block, value)
    return f"{value:08x}"
