"""Rows → features, once: tokenised in chunks into an Arrow file, found again under its key.

    cache/features/<key>.<crc32>.arrow

The file's name carries the checksum of its bytes, so one rename publishes content and proof
together: two processes may build the same key at once, and a damaged file is found out, removed
and built again. Memory is bounded by the chunk, not by the number of rows.
"""

from __future__ import annotations

import errno
import os
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from bertft.data.keys import feature_key, tokenizer_hash
from bertft.data.rows import Rows
from bertft.data.table import FeatureTable, Ragged, record_batch
from bertft.errors import DataError, EnvironmentFailed

__all__ = ["FeatureTable", "Ragged", "cache_folder", "featurize", "tokenizer_hash"]

Encode = Callable[[dict[str, list[Any]]], Mapping[str, Any]]

CHUNK = 50_000


def cache_folder(setting: str | None) -> Path:
    """``data.cache``, else $BERTFT_CACHE, else ~/.cache/bertft."""
    return Path(setting or os.environ.get("BERTFT_CACHE") or "~/.cache/bertft").expanduser()


def featurize(
    rows: Rows,
    encode: Encode,
    key_parts: Sequence[Any],
    cache: Path | None,
    *,
    chunk: int = CHUNK,
    progress: Callable[[int], None] | None = None,
    hint: str | None = None,
) -> FeatureTable:
    """The features of ``rows``: from ``cache`` where its key is there, else built (and kept).

    ``encode`` turns a chunk of columns into feature columns (see ``table.record_batch``) with
    ``row`` counted from the chunk's first row; it may give any number of features a row.
    ``key_parts`` are JSON values that, with the rows, determine what it gives. ``cache=None``
    keeps the table in memory. ``progress`` is told how many rows each chunk had.
    Raises DataError without rows or where none gives a feature (``hint`` may say why),
    EnvironmentFailed if the cache cannot be written.
    """
    if len(rows) == 0:
        raise DataError("there are no rows", where=rows.source)
    batches = _encoded(rows, encode, chunk, progress, hint)
    if cache is None:
        sink = pa.BufferOutputStream()
        _write(batches, sink)
        table = FeatureTable(sink.getvalue())
    else:
        folder, key = cache / "features", feature_key(rows, key_parts)
        table = _cached(folder, key) or _build(folder, key, batches)
    table.rows = rows
    return table


def _encoded(
    rows: Rows,
    encode: Encode,
    chunk: int,
    progress: Callable[[int], None] | None,
    hint: str | None,
) -> Iterator[pa.RecordBatch]:
    schema, done = None, 0
    for columns in rows.chunks(chunk):
        features = dict(encode(columns))
        features["row"] = np.asarray(features["row"], dtype=np.int64) + done
        size = len(columns["line"])
        done += size
        if len(features["row"]):
            batch = record_batch(features, schema)
            schema = batch.schema
            yield batch
        if progress is not None:
            progress(size)
    if schema is None:
        raise DataError("no row gave a feature", where=rows.source, hint=hint)


def _write(batches: Iterator[pa.RecordBatch], sink: Any) -> None:
    first = next(batches)
    with pa.ipc.new_file(sink, first.schema) as writer:
        writer.write_batch(first)
        for batch in batches:
            writer.write_batch(batch)


def _cached(folder: Path, key: str) -> FeatureTable | None:
    """The table under ``key`` if its bytes are what they were; a damaged one is removed."""
    for path in sorted(folder.glob(f"{key}.*.arrow")):
        with suppress(OSError, pa.ArrowInvalid):
            if _checksum(path) == path.suffixes[-2].removeprefix("."):
                return FeatureTable.open(path)
        with suppress(OSError):
            path.unlink()
    return None


def _build(folder: Path, key: str, batches: Iterator[pa.RecordBatch]) -> FeatureTable:
    with _environment(folder), _temporary(folder, key) as (file, path):
        _write(batches, file)
        file.flush()
        os.fsync(file.fileno())
        final = folder / f"{key}.{_checksum(path)}.arrow"
        os.replace(path, final)
    return FeatureTable.open(final)


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
