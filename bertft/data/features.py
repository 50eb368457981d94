"""Rows → features, once: tokenised in chunks into an Arrow file, found again under its key.

    cache/features/<key>.<crc32>.arrow

Memory is bounded by the chunk, not by the number of rows.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bertft.data.cache import cache_folder, load_cached, store_cached, write_arrow_file
from bertft.data.dataset import FeatureTable, RaggedColumn, make_record_batch
from bertft.data.rows import Rows
from bertft.errors import DataError

__all__ = [
    "FEATURE_CACHE_VERSION",
    "FeatureTable",
    "NoFeaturesError",
    "RaggedColumn",
    "cache_folder",
    "feature_key",
    "featurize",
    "tokenizer_hash",
    "without_padding",
]


FEATURE_CACHE_VERSION = 1  # raise it whenever the same rows and settings should give other features


def feature_key(rows: Rows, parts: Sequence[Any]) -> str:
    """Key of the features of ``rows``; ``parts`` are JSON values."""
    content = json.dumps([FEATURE_CACHE_VERSION, rows.fingerprint, list(parts)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def tokenizer_hash(tokenizer: Any) -> str:
    """sha256 over what determines a tokenizer's output, wherever it was loaded from.

    The truncation and padding that it carries are left out: they are settings of a call, files
    come with arbitrary ones, and every call with other ones changes them in the object.
    """
    digest = hashlib.sha256(type(tokenizer).__name__.encode())
    if getattr(tokenizer, "backend_tokenizer", None) is not None:
        with without_padding(tokenizer) as backend:
            digest.update(backend.to_str().encode())
    else:
        with tempfile.TemporaryDirectory() as folder:
            tokenizer.save_pretrained(folder)
            for path in sorted(Path(folder).iterdir()):
                digest.update(path.name.encode() + path.read_bytes())
    settings = [
        getattr(tokenizer, name, None)
        for name in ("model_input_names", "truncation_side", "special_tokens_map")
    ]
    digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
    return digest.hexdigest()


@contextmanager
def without_padding(tokenizer: Any) -> Iterator[Any]:
    """Its ``tokenizers.Tokenizer``, both off for a while: it is saved with the run as it was.

    None of a tokenizer written in Python, which applies neither unless it is asked to.
    """
    if not getattr(tokenizer, "is_fast", False):
        yield None
        return
    backend = tokenizer.backend_tokenizer
    truncation, padding = backend.truncation, backend.padding
    backend.no_truncation()
    backend.no_padding()
    try:
        yield backend
    finally:
        if truncation is not None:
            backend.enable_truncation(**truncation)
        if padding is not None:
            backend.enable_padding(**padding)


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
