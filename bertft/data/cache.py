"""Arrow files under a key: published whole, and trusted as long as their bytes are what they were.

    <folder>/<key>.<crc32>.arrow

The file's name carries the checksum of its bytes, so one rename publishes content and proof
together: two processes may write one key at once, and a damaged file is found out, removed and
written again. Memory is bounded by a record batch, not by the number of rows.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import pyarrow as pa

from bertft.config.data import DataConfig
from bertft.config.registry import READERS, TASKS
from bertft.data.data_sources import DataSource
from bertft.data.labels import records_to_batches, records_to_table
from bertft.data.rows import BadRows
from bertft.data.schema import RowSchema
from bertft.errors import DataError, SystemResourceError
from bertft.utils.safe_files import open_regular_file, unreadable

__all__ = [
    "MIN_CACHED_BYTES",
    "ROW_CACHE_VERSION",
    "cache_folder",
    "load_cached",
    "read_rows",
    "store_cached",
    "write_arrow_file",
]


ROW_CACHE_VERSION = 5  # raise it whenever the same file and settings should give other rows
MIN_CACHED_BYTES = 1 << 20  # bytes of a file that is read as fast as it would be found

_BAD_ROWS_FIELD = b"bertft.bad"
# What is done with rows after they were read, and where they are; all else is part of the key.
_SETTINGS_OUTSIDE_KEY = {
    "name",
    "source",
    "train",
    "validation",
    "unlabelled",
    "test",
    "hub",
    "subset",
    "sample",
    "max_train_rows",
    "max_validation_rows",
    "validation_fraction",
    "max_length",
    "on_bad_row",
    "max_skipped",
    "metric",
    "stride",
    "max_answer_length",
    "no_answer_threshold",
    "scorer",
    "mlm_probability",
    "whole_words",
    "seed",
    "cache",
}


def read_rows(
    source: DataSource, schema: RowSchema, split: str, config: DataConfig, use_cache: bool = True
) -> tuple[pa.Table, BadRows]:
    """The records of ``source`` that can be used, as the table of ``Rows``, and the others.

    ``use_cache`` False, or a cache that cannot be written: the rows are held in memory. Raises what
    reading raises, and DataError for a file that is written to while it is read.
    """
    path = source.path
    if use_cache and path is not None and path.stat().st_size >= MIN_CACHED_BYTES:
        folder, content = cache_folder(config.cache) / "rows", _file_hash(path)
        key = _row_cache_key(content, path.suffix.lower(), schema, split, config)
        cached = load_cached(folder, key, lambda kept: _load_table(kept, source, schema))
        if cached is not None:
            return cached
        with suppress(SystemResourceError, FileNotFoundError):
            bad = BadRows(source.source, source.unit)
            cached_path = store_cached(
                folder,
                key,
                records_to_batches(source.read(bad), schema, split, bad),
                schema.arrow_schema,
                lambda: {_BAD_ROWS_FIELD: bad.to_json().encode()},
            )
            if _file_hash(path) != content:
                cached_path.unlink(missing_ok=True)
                raise DataError(
                    "the file was written to while it was read",
                    where=source.source,
                    hint="Run again when it is whole",
                )
            return _load_table(cached_path, source, schema)
    bad = BadRows(source.source, source.unit, keep_all=not use_cache)
    table = records_to_table(source.read(bad), schema, split, bad)
    bad.check_row_counts(table.num_rows)
    return table, bad


def _row_cache_key(
    content: str, extension: str, schema: RowSchema, split: str, config: DataConfig
) -> str:
    settings = {
        name: value for name, value in asdict(config).items() if name not in _SETTINGS_OUTSIDE_KEY
    }
    identity = [
        type(schema).__module__,
        schema.arrow_schema.to_string(),
        schema.record_unit(extension),
    ]
    # A package's reader or rows may change with its version.
    readers = [name for name, reader in READERS.specs().items() if extension in reader.extensions]
    owners = [TASKS.package(config.task), *(READERS.package(name) for name in readers)]
    identity += [str(package) for package in owners if package is not None]
    parts = json.dumps(
        [ROW_CACHE_VERSION, content, extension, identity, split, settings], default=str
    )
    return hashlib.sha256(parts.encode()).hexdigest()


def _file_hash(path: Path) -> str:
    try:
        with open_regular_file(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise unreadable(error, path) from error


def _load_table(path: Path, data_source: DataSource, form: RowSchema) -> tuple[pa.Table, BadRows]:
    """The table in ``path``, and what its reader reported. pa.ArrowInvalid if it is none.

    The cache may be shared: its bytes are whole, and who wrote them is not known.
    """
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source.read_buffer())
    last = reader.num_record_batches - 1
    if last < 0 or not reader.schema.equals(form.arrow_schema, check_metadata=False):
        raise pa.ArrowInvalid("rows of another form")
    _, metadata = reader.get_batch_with_custom_metadata(last)
    batches = [reader.get_batch(index) for index in range(last)]
    table = pa.Table.from_batches(batches, reader.schema)
    try:
        bad = BadRows.from_json(
            (metadata or {})[_BAD_ROWS_FIELD], data_source.source, data_source.unit
        )
        bad.check_row_counts(table.num_rows)
    except (LookupError, TypeError, ValueError, RuntimeError) as error:
        raise pa.ArrowInvalid(f"no account of its rows: {error}") from error
    return table, bad


try:
    import fcntl
except ImportError:  # pragma: no cover
    fcntl = None  # type: ignore[assignment]


Found = TypeVar("Found")
_KEY_FIELD = b"bertft.key"
_STALE_SECONDS = (
    60.0  # seconds without a write before a temporary file may be one of a killed process
)
MetadataFactory = Callable[[], Mapping[bytes, bytes]]


def cache_folder(setting: str | None) -> Path:
    """``data.cache``, else $BERTFT_CACHE, else ~/.cache/bertft."""
    return Path(setting or os.environ.get("BERTFT_CACHE") or "~/.cache/bertft").expanduser()


def load_cached(folder: Path, key: str, read: Callable[[Path], Found]) -> Found | None:
    """What ``read`` makes of the file under ``key`` if its bytes are what they were.

    A damaged one, one that was written under another key, or one that ``read`` calls
    pa.ArrowInvalid, is removed.
    """
    for path in sorted(folder.glob(f"{key}.*.arrow")):
        with suppress(OSError, pa.ArrowException):
            is_intact = _checksum(path) == path.suffixes[-2].removeprefix(".")
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
    """Write ``batches`` under ``key``, whole or not at all. EnvironmentFailed if it cannot be.

    ``schema`` and ``make_metadata`` as for ``write_arrow_file``.
    """
    with _report_write_errors(folder), _temporary_file(folder, key) as (file, path):
        write_arrow_file(batches, file, schema, make_metadata, key)
        file.flush()
        os.fsync(file.fileno())
        final = folder / f"{key}.{_checksum(path)}.arrow"
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

    ``key`` goes into the schema's metadata: a file proves which key it was written under.
    ``make_metadata`` is asked after the last batch; its answer is the metadata of one more, empty
    one.
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
            hint="Make room or name another folder with data.cache=<folder>",
        ) from error


@contextmanager
def _temporary_file(folder: Path, key: str) -> Iterator[tuple[BinaryIO, Path]]:
    """A file next to the final one that is gone afterwards, unless it was renamed.

    It is locked while it is written, so that another process can tell it from one that a killed
    process left, also where several machines share the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _remove_stale_files(folder)
    descriptor, name = tempfile.mkstemp(prefix=f".{key[:16]}-", suffix=".tmp", dir=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            _try_lock(file)
            yield file, Path(name)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(name)


def _remove_stale_files(folder: Path) -> None:
    """Remove the temporary files that no process writes any more."""
    for path in folder.glob(".*.tmp"):
        with suppress(OSError):
            # A new file is locked a moment after it is made.
            if time.time() - path.stat().st_mtime > _STALE_SECONDS and stat.S_ISREG(
                path.lstat().st_mode
            ):
                with path.open("rb+") as file:
                    if _try_lock(file):
                        path.unlink()


def _try_lock(file: BinaryIO) -> bool:
    """Lock ``file`` for this process; False if another one holds it, or nothing can be locked."""
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


def _checksum(path: Path) -> str:
    value = 0
    with open_regular_file(path) as file:
        while block := file.read(1 << 22):
            value = zlib.crc32(block, value)
    return f"{value:08x}"
