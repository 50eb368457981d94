"""Draw rows: a validation split cut from train, a sample of a split. Functions of data.seed."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow.compute as pc

from bertft.data.rows import Rows
from bertft.errors import DataError

__all__ = ["hold_out_validation", "sample_rows"]


def hold_out_validation(
    rows: Rows, fraction: float, seed: int, stratified: bool, group_column: str | None = None
) -> tuple[Rows, Rows]:
    """(train, validation): ``fraction`` of the rows go to validation, both in their old order.

    Stratified: every class gives its share, by largest remainders, and keeps a row in train.
    ``group_column``: rows with one value in that column go to one side, so that validation has at
    least its share. Raises DataError if either side would be empty.
    """
    count = len(rows)
    size = max(1, round(fraction * count))
    if size >= count:
        raise DataError(
            f"{count} rows are too few to cut a validation split from", where=rows.source,
            hint="Give data.validation=<file>, or more rows",
        )  # fmt: skip
    generator = np.random.Generator(np.random.PCG64([seed, 1]))
    shuffled: np.ndarray = generator.permutation(count).astype(np.int32)
    chosen: np.ndarray
    if stratified:
        codes = _value_codes(rows, "label")[shuffled]
        sizes = np.bincount(codes)
        quota, starts = _class_quotas(sizes, size), np.cumsum(sizes) - sizes
        order = np.argsort(codes, kind="stable")  # class by class, each as it was shuffled
        rows_per_class = [order[start : start + class_quota] for start, class_quota in zip(starts, quota, strict=True)]
        chosen = shuffled[np.concatenate(rows_per_class)]
    elif group_column is not None:
        codes = _value_codes(rows, group_column)
        order = codes[shuffled][np.sort(np.unique(codes[shuffled], return_index=True)[1])]
        sizes = np.cumsum(np.bincount(codes)[order])
        chosen = np.flatnonzero(np.isin(codes, order[: np.searchsorted(sizes, size) + 1]))
    else:
        chosen = shuffled[:size]
    validation_mask = np.zeros(count, dtype=bool)
    validation_mask[chosen] = True
    if not validation_mask.any():
        raise DataError(
            "every class has a single row: none can be held out", where=rows.source,
            hint="Give data.validation=<file>",
        )  # fmt: skip
    if validation_mask.all():
        raise DataError(
            f"all rows have one {group_column}: none can be held out", where=rows.source,
            hint="Give data.validation=<file>",
        )  # fmt: skip
    # What was left out of the file is told once, with the rows that train.
    validation = replace(
        rows.select(validation_mask), read=int(validation_mask.sum()), skipped=Counter(), unused=Counter(),
        dropped=Counter(), other_lines=Counter(), blank_lines=0, notes=(),
    )  # fmt: skip
    return rows.select(~validation_mask, "held out for validation"), validation


def sample_rows(rows: Rows, size: int | None, seed: int, setting: str = "sample") -> Rows:
    """``size`` rows drawn without replacement, in their old order; all if there are fewer.

    ``setting`` is what the size comes from.
    """
    if size is None or size >= len(rows):
        return rows
    generator = np.random.Generator(np.random.PCG64([seed, 2]))
    sampled_mask = np.zeros(len(rows), dtype=bool)
    sampled_mask[generator.choice(len(rows), size, replace=False)] = True
    return rows.select(sampled_mask, f"not drawn ({setting})")


def _value_codes(rows: Rows, name: str) -> np.ndarray:
    """Number of each row's value in a column, by when it first came, int32 [rows]."""
    encoded = pc.dictionary_encode(rows.arrow_column(name))
    numbers = [np.asarray(chunk.indices, dtype=np.int32) for chunk in encoded.chunks]
    return np.concatenate(numbers)


def _class_quotas(counts: np.ndarray, total: int) -> np.ndarray:
    """Rows that each class gives: proportional, ``total`` together where the classes allow it."""
    exact = counts * (total / counts.sum())
    maximum = np.maximum(counts - 1, 0)
    quota = np.minimum(np.floor(exact).astype(np.int64), maximum)
    for class_index in np.argsort(-(exact - np.floor(exact)), kind="stable"):
        if quota.sum() < total and quota[class_index] < maximum[class_index]:
            quota[class_index] += 1
    return quota
