"""The splits as feature tables, tokenised once and kept in the cache."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from bertft.data.bad_rows import BadRows, Fault, settle
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
    on_bad_row: str = "error",
) -> dict[str, FeatureTable]:
    """Split name → table, of the splits that have rows with what the task needs of them.

    Rows that give no feature are bad rows, found here because it takes a tokenizer: DataError
    names them, or they are left out and counted with the others of their ``Rows``.
    """
    encode = task.encoder(tokenizer, max_length)
    key = key_parts(task, tokenizer, max_length)
    fault, tables = task.without_feature(max_length), {}
    for name, each in rows.items():
        if (each.labelled or not task.supervised) and len(each):
            tables[name] = featurize(each, encode, key, cache, hint=fault.detail)
            _settle_featureless(tables[name], fault, on_bad_row)
    return tables


def unlabelled_features(
    rows: Rows,
    task: BaseTask,
    tokenizer: Any,
    max_length: int,
    cache: Path | None,
    on_bad_row: str = "error",
) -> FeatureTable:
    """The table of rows without labels."""
    fault = task.without_feature(max_length)
    encode, key = task.encoder(tokenizer, max_length), key_parts(task, tokenizer, max_length)
    table = featurize(rows, encode, key, cache, hint=fault.detail)
    _settle_featureless(table, fault, on_bad_row)
    return table


def key_parts(task: BaseTask, tokenizer: Any, max_length: int) -> list[Any]:
    """What features depend on beside their rows."""
    return [task.key(), max_length, tokenizer_hash(tokenizer)]


def _settle_featureless(table: FeatureTable, fault: Fault, policy: str) -> None:
    rows = table.rows
    there = table.has_feature()
    if there.all():
        return
    bad = BadRows(rows.source, rows.unit)
    for line in rows.values("line").filter(pa.array(~there)).to_pylist():
        bad.add(line, fault)
    settle([bad], policy)
    rows.skipped.update(bad.counts)
