"""The splits as feature tables, tokenised once and kept in the cache."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bertft.data.features import FeatureTable, featurize, tokenizer_hash
from bertft.data.rows import Rows
from bertft.tasks.task import BaseTask

__all__ = ["features_of", "key_parts", "unlabelled_features"]


def features_of(
    rows: Mapping[str, Rows],
    task: BaseTask,
    tokenizer: Any,
    max_length: int,
    cache: Path | None,
) -> dict[str, FeatureTable]:
    """Split name → table, of the splits that are labelled and have rows."""
    encode = task.encoder(tokenizer, max_length)
    key = key_parts(task, tokenizer, max_length)
    return {
        name: featurize(each, encode, key, cache)
        for name, each in rows.items()
        if each.labelled and len(each)
    }


def unlabelled_features(
    rows: Rows, task: BaseTask, tokenizer: Any, max_length: int, cache: Path | None
) -> FeatureTable:
    """The features of rows without labels."""
    encode = task.encoder(tokenizer, max_length)
    return featurize(rows, encode, key_parts(task, tokenizer, max_length), cache)


def key_parts(task: BaseTask, tokenizer: Any, max_length: int) -> list[Any]:
    """What features depend on beside their rows."""
    return [task.key(), max_length, tokenizer_hash(tokenizer)]
