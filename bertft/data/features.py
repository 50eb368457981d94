"""Rows → features, once: tokenised in chunks into an Arrow file, found again under its key.

    cache/features/<key>.<crc32>.arrow

Memory is bounded by the chunk, not by the number of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bertft.data.kept import cache_folder, find, publish, write
from bertft.data.keys import feature_key, tokenizer_hash
from bertft.data.rows import Rows
from bertft.data.table import FeatureTable, Ragged, record_batch
from bertft.errors import DataError

__all__ = [
    "FeatureTable", "NoFeatures", "Ragged", "cache_folder", "featurize", "tokenizer_hash",
]  # fmt: skip

Encode = Callable[[dict[str, list[Any]]], Mapping[str, Any]]

CHUNK = 50_000


class NoFeatures(DataError):
    """None of the rows gives a feature."""


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
        write(batches, sink)
        table = FeatureTable(sink.getvalue())
    else:
        folder, key = cache / "features", feature_key(rows, key_parts)
        found = find(folder, key, FeatureTable.open)
        table = FeatureTable.open(publish(folder, key, batches)) if found is None else found
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
    for piece in rows.slices(chunk):
        features = dict(encode(piece.to_pydict()))
        features["row"] = np.asarray(features["row"], dtype=np.int64) + done
        done += piece.num_rows
        if len(features["row"]):
            batch = record_batch(features, schema)
            schema = batch.schema
            yield batch
        if progress is not None:
            progress(piece.num_rows)
    if schema is None:
        raise NoFeatures("no row gave a feature", where=rows.source, hint=hint)
