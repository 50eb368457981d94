"""A model's logits over a whole feature table, kept in a mapped file or in memory.

    cache/teacher/<key>.<crc32>.arrow        one column, fp32: [features, C], or [tokens, C]

Found again, checked and published as the features are. What beside logits is worth keeping (how
long they took, on what) stands in the file's own metadata.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bertft.data.kept import find, publish
from bertft.data.table import FeatureTable, record_batch

__all__ = ["StoredLogits", "find_logits", "keep_logits"]

_COLUMN, _FACTS = "logits", b"bertft"


class StoredLogits:
    """``lengths`` [features]: of token-level logits, how many tokens each feature has.

    ``facts`` are JSON values that were kept beside.
    """

    def __init__(
        self, values: np.ndarray | FeatureTable, lengths: np.ndarray | None, facts: dict[str, Any]
    ) -> None:
        self._values, self._lengths, self.facts = values, lengths, facts
        self._starts = None
        if lengths is not None:
            self._starts = np.cumsum(lengths, dtype=np.int64) - lengths

    def gather(self, index: np.ndarray) -> np.ndarray:
        """Logits of features ``index``: [n, C], or their tokens end to end [Σ lengths, C]."""
        places = np.asarray(index, np.int64)
        if self._starts is not None and self._lengths is not None:
            counts = self._lengths[places].astype(np.int64)
            before = np.cumsum(counts) - counts
            places = np.repeat(self._starts[places] - before, counts) + np.arange(counts.sum())
        return self._at(places)

    def whole(self) -> np.ndarray:
        """All logits, in memory."""
        return self._at(np.arange(len(self._values)))

    def _at(self, places: np.ndarray) -> np.ndarray:
        if isinstance(self._values, FeatureTable):
            return self._values.gather(_COLUMN, places)
        return self._values[places]


def find_logits(cache: Path, key: str, lengths: np.ndarray | None) -> StoredLogits | None:
    """What was kept under ``key`` and is whole; None if nothing is."""

    def read(path: Path) -> StoredLogits:
        table = FeatureTable.open(path)
        try:
            facts = json.loads((table.schema.metadata or {})[_FACTS])
            if _COLUMN not in table.schema.names or not isinstance(facts, dict):
                raise ValueError("other columns or facts")
        except (LookupError, ValueError) as error:
            raise pa.ArrowInvalid(f"no logits: {error}") from error
        return StoredLogits(table, lengths, facts)

    return find(cache / "teacher", key, read)


def keep_logits(
    cache: Path, key: str, values: np.ndarray, lengths: np.ndarray | None, facts: Mapping[str, Any]
) -> StoredLogits:
    """Write ``values`` [n, C] under ``key``. EnvironmentFailed if they cannot be."""
    batch: pa.RecordBatch = record_batch({_COLUMN: values.astype(np.float32, copy=False)})
    batch = batch.replace_schema_metadata({_FACTS: json.dumps(facts)})
    table = FeatureTable.open(publish(cache / "teacher", key, [batch]))
    return StoredLogits(table, lengths, dict(facts))
