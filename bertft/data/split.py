"""Draw rows: a validation split cut from train, a sample of a split. Functions of data.seed."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow.compute as pc

from bertft.data.rows import Rows
from bertft.errors import DataError

__all__ = ["cut", "sample"]


def cut(
    rows: Rows, share: float, seed: int, stratified: bool, together: str | None = None
) -> tuple[Rows, Rows]:
    """(train, validation): ``share`` of the rows go to validation, both in their old order.

    Stratified: every class gives its share, by largest remainders, and keeps a row in train.
    ``together``: rows with one value in that column go to one side, so that validation has at
    least its share. Raises DataError if either side would be empty.
    """
    count = len(rows)
    wanted = max(1, round(share * count))
    if wanted >= count:
        raise DataError(
            f"{count} rows are too few to cut a validation split from", where=rows.source,
            hint="Give data.validation=<file>, or more rows",
        )  # fmt: skip
    generator = np.random.Generator(np.random.PCG64([seed, 1]))
    shuffled: np.ndarray = generator.permutation(count).astype(np.int32)
    chosen: np.ndarray
    if stratified:
        codes = _codes(rows, "label")[shuffled]
        sizes = np.bincount(codes)
        quota, starts = _quota(sizes, wanted), np.cumsum(sizes) - sizes
        order = np.argsort(codes, kind="stable")  # class by class, each as it was shuffled
        first = [order[start : start + some] for start, some in zip(starts, quota, strict=True)]
        chosen = shuffled[np.concatenate(first)]
    elif together is not None:
        codes = _codes(rows, together)
        order = codes[shuffled][np.sort(np.unique(codes[shuffled], return_index=True)[1])]
        sizes = np.cumsum(np.bincount(codes)[order])
        chosen = np.flatnonzero(np.isin(codes, order[: np.searchsorted(sizes, wanted) + 1]))
    else:
        chosen = shuffled[:wanted]
    held = np.zeros(count, dtype=bool)
    held[chosen] = True
    if not held.any():
        raise DataError(
            "every class has a single row: none can be held out", where=rows.source,
            hint="Give data.validation=<file>",
        )  # fmt: skip
    if held.all():
        raise DataError(
            f"all rows have one {together}: none can be held out", where=rows.source,
            hint="Give data.validation=<file>",
        )  # fmt: skip
    # What was left out of the file is told once, with the rows that train.
    validation = replace(
        rows.keep(held), read=int(held.sum()), skipped=Counter(), unused=Counter(),
        dropped=Counter(), other_lines=Counter(), blank=0, notes=(),
    )  # fmt: skip
    return rows.keep(~held, "held out for validation"), validation


def sample(rows: Rows, size: int | None, seed: int, setting: str = "sample") -> Rows:
    """``size`` rows drawn without replacement, in their old order; all if there are fewer.

    ``setting`` is what the size comes from.
    """
    if size is None or size >= len(rows):
        return rows
    generator = np.random.Generator(np.random.PCG64([seed, 2]))
    drawn = np.zeros(len(rows), dtype=bool)
    drawn[generator.choice(len(rows), size, replace=False)] = True
    return rows.keep(drawn, f"not drawn ({setting})")


def _codes(rows: Rows, name: str) -> np.ndarray:
    """Number of each row's value in a column, by when it first came, int32 [rows]."""
    encoded = pc.dictionary_encode(rows.values(name))
    numbers = [np.asarray(chunk.indices, dtype=np.int32) for chunk in encoded.chunks]
    return np.concatenate(numbers)


def _quota(counts: np.ndarray, wanted: int) -> np.ndarray:
    """Rows that each class gives: proportional, ``wanted`` together where the classes allow it."""
    exact = counts * (wanted / counts.sum())
    most = np.maximum(counts - 1, 0)
    quota = np.minimum(np.floor(exact).astype(np.int64), most)
    for place in np.argsort(-(exact - np.floor(exact)), kind="stable"):
        if quota.sum() < wanted and quota[place] < most[place]:
            quota[place] += 1
    return quota
