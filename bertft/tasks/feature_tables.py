"""Feature tables: rows → features, as a task encodes them; rows without a feature are bad rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from bertft.data.features import FeatureTable, featurize, tokenizer_hash
from bertft.data.rows import BadRows, RowError, Rows, check_skipped_share, raise_or_skip
from bertft.tasks.task import BaseTask

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["build_features", "build_unlabelled_features", "feature_key_parts"]


def build_features(
    rows: Mapping[str, Rows],
    task: BaseTask,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    cache: Path | None,
    on_bad_row: str = "error",
    max_skipped: float | None = None,
) -> dict[str, FeatureTable]:
    """Split name → feature table, for the splits with the rows (and labels) that the task needs.

    Rows without a feature are bad rows, detected only here because that needs the tokenizer. With
    ``on_bad_row=skip`` they are left out and counted in their ``Rows``.

    Raises:
        DataError: there are bad rows and ``on_bad_row`` is ``error``, or more than the share
            ``max_skipped`` of the rows was skipped.
    """
    needed = {
        name: split
        for name, split in rows.items()
        if (split.has_labels or not task.needs_labels) and len(split)
    }
    return _featurize_splits(needed, task, tokenizer, max_length, cache, on_bad_row, max_skipped)


def build_unlabelled_features(
    rows: Rows,
    task: BaseTask,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    cache: Path | None,
    on_bad_row: str = "error",
    max_skipped: float | None = None,
) -> FeatureTable:
    """The feature table of rows without labels; the arguments are those of ``build_features``."""
    [table] = _featurize_splits(
        {"unlabelled": rows}, task, tokenizer, max_length, cache, on_bad_row, max_skipped
    ).values()
    return table


def _featurize_splits(
    rows: Mapping[str, Rows],
    task: BaseTask,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    cache: Path | None,
    on_bad_row: str,
    max_skipped: float | None,
) -> dict[str, FeatureTable]:
    encode = task.make_encoder(tokenizer, max_length)
    key = [] if cache is None else feature_key_parts(task, tokenizer, max_length)
    error = task.no_feature_error(max_length)
    tables = {}
    for name, split in rows.items():
        tables[name] = featurize(split, encode, key, cache, row_error=error)
        _handle_rows_without_features(tables[name], error, on_bad_row, max_skipped)
    return tables


def feature_key_parts(
    task: BaseTask, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> list[Any]:
    """JSON values that features depend on, in addition to their rows."""
    return [task.cache_key(), max_length, tokenizer_hash(tokenizer)]


def _handle_rows_without_features(
    table: FeatureTable, error: RowError, policy: str, max_skipped: float | None
) -> None:
    rows = table.rows
    has_feature = table.rows_with_features()
    if has_feature.all():
        return
    without_feature = BadRows(rows.source, rows.bad.unit, rows.bad.files, read=len(rows))
    skipped_before = len(rows.bad)
    for line in rows.arrow_column("line").filter(pa.array(~has_feature)).to_pylist():
        without_feature.add(line, error)
        rows.bad.add(line, error)
    raise_or_skip([without_feature], policy)
    if max_skipped is None:
        return
    # In a sample of the rows, those without a feature represent the same share of all rows.
    share = len(without_feature) / len(rows)
    skipped = skipped_before + share * (rows.bad.read - skipped_before)
    check_skipped_share(rows.bad, skipped, rows.bad.read, max_skipped)
