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

from bertft.data.kept import cache_folder, load_cached, store_cached, write_arrow_file
from bertft.data.keys import feature_key, tokenizer_hash
from bertft.data.rows import Rows
from bertft.data.table import FeatureTable, RaggedColumn, make_record_batch
from bertft.errors import DataError

__all__ = [
    "FeatureTable", "NoFeaturesError", "RaggedColumn", "cache_folder", "featurize", "tokenizer_hash",
]  # fmt: skip

EncodeFunction = Callable[[dict[str, list[Any]]], Mapping[str, Any]]

CHUNK_ROWS = 50_000


class NoFeaturesError(DataError):
    """None of the rows gives a feature."""


def featurize(
    rows: Rows,
    encode: EncodeFunction,
    key_parts: Sequence[Any],
    cache: Path | None,
    *,
    chunk: int = CHUNK_ROWS,
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
    batches = _encode_chunks(rows, encode, chunk, progress, hint)
    if cache is None:
        sink = pa.BufferOutputStream()
        write_arrow_file(batches, sink)
        table = FeatureTable(sink.getvalue())
    else:
        folder, key = cache / "features", feature_key(rows, key_parts)
        cached = load_cached(folder, key, FeatureTable.open)
        table = FeatureTable.open(store_cached(folder, key, batches)) if cached is None else cached
    table.rows = rows
    return table


def _encode_chunks(
    rows: Rows,
    encode: EncodeFunction,
    chunk: int,
    progress: Callable[[int], None] | None,
    hint: str | None,
) -> Iterator[pa.RecordBatch]:
    schema, rows_before = None, 0
    for rows_chunk in rows.iter_chunks(chunk):
        features = dict(encode(rows_chunk.to_pydict()))
        features["row"] = np.asarray(features["row"], dtype=np.int64) + rows_before
        rows_before += rows_chunk.num_rows
        if len(features["row"]):
            batch = make_record_batch(features, schema)
            schema = batch.schema
            yield batch
        if progress is not None:
            progress(rows_chunk.num_rows)
    if schema is None:
        raise NoFeaturesError("no row gave a feature", where=rows.source, hint=hint)
