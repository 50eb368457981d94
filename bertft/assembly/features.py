"""The splits as feature tables, tokenised once and kept in the cache."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from bertft.data.bad_rows import BadRows, Fault, check_share, settle
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
    max_skipped: float | None = None,
) -> dict[str, FeatureTable]:
    """Split name → table, of the splits that have rows with what the task needs of them.

    Rows that give no feature are bad rows, found here because it takes a tokenizer: DataError
    names them, or they are left out and counted with the others of their ``Rows``; with
    ``max_skipped`` DataError where those together are a larger share.
    """
    encode = task.encoder(tokenizer, max_length)
    key = key_parts(task, tokenizer, max_length)
    fault, tables = task.without_feature(max_length), {}
    for name, each in rows.items():
        if (each.labelled or not task.supervised) and len(each):
            tables[name] = featurize(each, encode, key, cache, hint=fault.detail)
            _settle_featureless(tables[name], fault, on_bad_row, max_skipped)
    return tables


def unlabelled_features(
    rows: Rows,
    task: BaseTask,
    tokenizer: Any,
    max_length: int,
    cache: Path | None,
    on_bad_row: str = "error",
    max_skipped: float | None = None,
) -> FeatureTable:
    """The table of rows without labels; bad rows as in ``features_of``."""
    fault = task.without_feature(max_length)
    encode, key = task.encoder(tokenizer, max_length), key_parts(task, tokenizer, max_length)
    table = featurize(rows, encode, key, cache, hint=fault.detail)
    _settle_featureless(table, fault, on_bad_row, max_skipped)
    return table


def key_parts(task: BaseTask, tokenizer: Any, max_length: int) -> list[Any]:
    """What features depend on beside their rows."""
    return [task.key(), max_length, tokenizer_hash(tokenizer)]


def _settle_featureless(
    table: FeatureTable, fault: Fault, policy: str, max_skipped: float | None
) -> None:
    rows = table.rows
    there = table.has_feature()
    if there.all():
        return
    bad = BadRows(rows.source, rows.unit, keep_every=rows.every is not None)
    bad.read = len(rows)
    for line in rows.values("line").filter(pa.array(~there)).to_pylist():
        bad.add(line, fault)
    settle([bad], policy)
    if rows.every is not None and bad.every is not None:
        rows.every.extend(bad.every)
    before = rows.skipped.total()
    rows.skipped.update(bad.counts)
    if max_skipped is None:
        return
    # Of rows drawn from many, those without a feature stand for as large a share of all.
    share = len(bad) / len(rows)
    bad.counts, bad.first = rows.skipped, [*rows.first, *bad.first]
    check_share(bad, before + share * (rows.read - before), rows.read, max_skipped)
