"""Arrow files under a key: published whole, and trusted as long as their bytes are what they were.

    <folder>/<key>.<crc32>.arrow

The file's name carries the checksum of its bytes, so one rename publishes content and proof
together: two processes may write one key at once, and a damaged file is found out, removed and
written again. Memory is bounded by a record batch, not by the number of rows.
"""

from __future__ import annotations

import errno
import os
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import pyarrow as pa

from bertft.errors import EnvironmentFailed

__all__ = ["cache_folder", "find", "publish", "write"]

Found = TypeVar("Found")
Facts = Callable[[], Mapping[bytes, bytes]]


def cache_folder(setting: str | None) -> Path:
    """``data.cache``, else $BERTFT_CACHE, else ~/.cache/bertft."""
    return Path(setting or os.environ.get("BERTFT_CACHE") or "~/.cache/bertft").expanduser()


def find(folder: Path, key: str, read: Callable[[Path], Found]) -> Found | None:
    """What ``read`` makes of the file under ``key`` if its bytes are what they were.

    A damaged one, or one that ``read`` calls pa.ArrowInvalid, is removed.
    """
    for path in sorted(folder.glob(f"{key}.*.arrow")):
        with suppress(OSError, pa.ArrowInvalid):
            if _checksum(path) == path.suffixes[-2].removeprefix("."):
                return read(path)
        with suppress(OSError):
            path.unlink()
    return None


def publish(
    folder: Path,
    key: str,
    batches: Iterable[pa.RecordBatch],
    schema: pa.Schema | None = None,
    facts: Facts | None = None,
) -> Path:
    """Write ``batches`` under ``key``, whole or not at all. EnvironmentFailed if it cannot be.

    ``schema`` and ``facts`` as for ``write``.
    """
    with _environment(folder), _temporary(folder, key) as (file, path):
        write(batches, file, schema, facts)
        file.flush()
        os.fsync(file.fileno())
        final = folder / f"{key}.{_checksum(path)}.arrow"
        os.replace(path, final)
    return final


def write(
    batches: Iterable[pa.RecordBatch],
    sink: Any,
    schema: pa.Schema | None = None,
    facts: Facts | None = None,
) -> None:
    """Write one Arrow IPC file; ``schema`` is that of the first batch unless given.

    ``facts`` is asked after the last batch; its answer is the metadata of one more, empty one.
    """
    rest = iter(batches)
    first = None if schema is not None else next(rest)
    schema = first.schema if first is not None else schema
    with pa.ipc.new_file(sink, schema) as writer:
        if first is not None:
            writer.write_batch(first)
        for batch in rest:
            writer.write_batch(batch)
        if facts is not None:
            empty = pa.RecordBatch.from_pylist([], schema=schema)
            writer.write_batch(empty, custom_metadata=dict(facts()))


@contextmanager
def _environment(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise EnvironmentFailed(
            "the disk is full" if full else f"cannot write: {error.strerror or error}",
            where=str(folder),
            hint="Make room or name another folder with data.cache=<folder>",
        ) from error


@contextmanager
def _temporary(folder: Path, key: str) -> Iterator[tuple[BinaryIO, Path]]:
    """A file beside the final one that is gone afterwards, unless it was renamed."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{key[:16]}-", suffix=".tmp", dir=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file, Path(name)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(name)


def _checksum(path: Path) -> str:
    value = 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            value = zlib.crc32(block, value)
    return f"{value:08x}"
