"""The splits as feature tables, tokenised once and kept in the cache."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from bertft.data.bad_rows import BadRows, RowError, check_skipped_share, raise_or_skip
from bertft.data.features import FeatureTable, featurize, tokenizer_hash
from bertft.data.rows import Rows
from bertft.tasks.task import BaseTask

__all__ = ["build_features", "feature_key_parts", "build_unlabelled_features"]


def build_features(
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
    encode = task.make_encoder(tokenizer, max_length)
    key = feature_key_parts(task, tokenizer, max_length)
    fault, tables = task.no_feature_error(max_length), {}
    for name, rows_of_split in rows.items():
        if (rows_of_split.has_labels or not task.needs_labels) and len(rows_of_split):
            tables[name] = featurize(rows_of_split, encode, key, cache, hint=fault.detail)
            _handle_rows_without_features(tables[name], fault, on_bad_row, max_skipped)
    return tables


def build_unlabelled_features(
    rows: Rows,
    task: BaseTask,
    tokenizer: Any,
    max_length: int,
    cache: Path | None,
    on_bad_row: str = "error",
    max_skipped: float | None = None,
) -> FeatureTable:
    """The table of rows without labels; bad rows as in ``build_features``."""
    fault = task.no_feature_error(max_length)
    encode, key = task.make_encoder(tokenizer, max_length), feature_key_parts(task, tokenizer, max_length)
    table = featurize(rows, encode, key, cache, hint=fault.detail)
    _handle_rows_without_features(table, fault, on_bad_row, max_skipped)
    return table


def feature_key_parts(task: BaseTask, tokenizer: Any, max_length: int) -> list[Any]:
    """What features depend on beside their rows."""
    return [task.cache_key(), max_length, tokenizer_hash(tokenizer)]


def _handle_rows_without_features(
    table: FeatureTable, fault: RowError, policy: str, max_skipped: float | None
) -> None:
    rows = table.rows
    has_feature = table.rows_with_features()
    if has_feature.all():
        return
    bad = BadRows(rows.source, rows.unit, keep_all=rows.all_errors is not None)
    bad.read = len(rows)
    for line in rows.arrow_column("line").filter(pa.array(~has_feature)).to_pylist():
        bad.add(line, fault)
    raise_or_skip([bad], policy)
    if rows.all_errors is not None and bad.all_errors is not None:
        rows.all_errors.extend(bad.all_errors)
    skipped_before = rows.skipped.total()
    rows.skipped.update(bad.counts)
    if max_skipped is None:
        return
    # Of rows drawn from many, those without a feature stand for as large a share of all.
    share = len(bad) / len(rows)
    bad.counts, bad.first = rows.skipped, [*rows.first_errors, *bad.first]
    check_skipped_share(bad, skipped_before + share * (rows.read - skipped_before), rows.read, max_skipped)
