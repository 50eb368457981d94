"""The splits as feature tables, tokenised once and kept in the cache."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bertft.data.features import FeatureTable, featurize, tokenizer_hash
from bertft.data.rows import Rows
from bertft.tasks.task import BaseTask

__all__ = ["features_of"]


def features_of(
    rows: Mapping[str, Rows],
    task: BaseTask,
    tokenizer: Any,
    max_length: int,
    cache: Path | None,
) -> dict[str, FeatureTable]:
    """Split name → table, of the splits that have rows with what the task needs of them."""
    encode = task.encoder(tokenizer, max_length)
    key = [task.key(), max_length, tokenizer_hash(tokenizer)]
    return {
        name: featurize(each, encode, key, cache)
        for name, each in rows.items()
        if (each.labelled or not task.supervised) and len(each)
    }
