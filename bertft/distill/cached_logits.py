"""A model's logits for a whole feature table, in a memory-mapped file or in memory.

    cache/teacher/<key>.<crc32>.arrow        one column, fp32: [features, C], or [tokens, C]

The file is cached like the features. Its metadata has JSON values about the logits, such as the
computing time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bertft.data.cache import load_cached, store_cached
from bertft.data.features import FeatureTable, make_record_batch

__all__ = ["CachedLogits", "load_cached_logits", "store_logits"]

_COLUMN, _METADATA_KEY = "logits", b"bertft"


class CachedLogits:
    """``lengths`` [features]: tokens per feature, for token-level logits; else None.

    ``metadata``: JSON values that were stored with the logits.
    """

    def __init__(
        self,
        values: np.ndarray | FeatureTable,
        lengths: np.ndarray | None,
        metadata: dict[str, Any],
    ) -> None:
        self._values, self._lengths, self.metadata = values, lengths, metadata
        self._starts = None
        if lengths is not None:
            self._starts = np.cumsum(lengths, dtype=np.int64) - lengths

    def gather(self, feature_indices: np.ndarray) -> np.ndarray:
        """Logits of ``feature_indices``: [n, C], or of their concatenated tokens [Σ lengths, C]."""
        positions = np.asarray(feature_indices, np.int64)
        if self._starts is not None and self._lengths is not None:
            counts = self._lengths[positions].astype(np.int64)
            before = np.cumsum(counts) - counts
            positions = np.repeat(self._starts[positions] - before, counts) + np.arange(
                counts.sum()
            )
        return self._read_at(positions)

    def read_all(self) -> np.ndarray:
        """All logits, in memory."""
        return self._read_at(np.arange(len(self._values)))

    def _read_at(self, positions: np.ndarray) -> np.ndarray:
        if isinstance(self._values, FeatureTable):
            return self._values.gather(_COLUMN, positions)
        return self._values[positions]


def load_cached_logits(cache: Path, key: str, lengths: np.ndarray | None) -> CachedLogits | None:
    """The logits stored under ``key``; None if there is no intact file."""

    def read(path: Path) -> CachedLogits:
        table = FeatureTable.open(path)
        try:
            metadata = json.loads((table.schema.metadata or {})[_METADATA_KEY])
            if _COLUMN not in table.schema.names or not isinstance(metadata, dict):
                raise ValueError("unexpected columns or metadata")
        except (LookupError, ValueError) as error:
            raise pa.ArrowInvalid(f"not a file of logits: {error}") from error
        return CachedLogits(table, lengths, metadata)

    return load_cached(cache / "teacher", key, read)


def store_logits(
    cache: Path,
    key: str,
    values: np.ndarray,
    lengths: np.ndarray | None,
    metadata: Mapping[str, Any],
) -> CachedLogits:
    """Write ``values`` [n, C] under ``key``. Raises SystemResourceError if that fails."""
    batch: pa.RecordBatch = make_record_batch({_COLUMN: values.astype(np.float32, copy=False)})
    batch = batch.replace_schema_metadata({_METADATA_KEY: json.dumps(metadata)})
    table = FeatureTable.open(store_cached(cache / "teacher", key, [batch]))
    return CachedLogits(table, lengths, dict(metadata))
