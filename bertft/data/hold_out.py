"""Hold out validation rows, and draw samples of rows. Both depend on data.seed alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow.compute as pc

from bertft.data.rows import BadRows, Rows
from bertft.errors import DataError

__all__ = ["hold_out_validation", "sample_rows", "value_codes"]


def hold_out_validation(
    rows: Rows,
    fraction: float,
    seed: int,
    stratified: bool,
    group_column: str | None = None,
    group_setting: str | None = None,
) -> tuple[Rows, Rows]:
    """(train, validation): ``fraction`` of the rows become validation; both keep their order.

    Stratified: rows are held out per class, by largest remainders, and each class keeps a row in
    train. ``group_column``: rows with the same value in that column stay together, and validation
    has at least ``fraction``; ``group_setting`` is its name in the files, if data.group names it.
    Raises DataError if either side would be empty.
    """
    count = len(rows)
    size = max(1, round(fraction * count))
    if size >= count:
        raise DataError(
            f"{count} rows are too few to hold out a validation split",
            where=rows.source,
            hint="Set data.validation=<file>, or add rows",
        )
    generator = np.random.Generator(np.random.PCG64([seed, 1]))
    shuffled: np.ndarray = generator.permutation(count).astype(np.int32)
    if stratified:
        chosen = _draw_stratified(value_codes(rows, "label"), shuffled, size)
    elif group_column is not None:
        chosen = _draw_groups(value_codes(rows, group_column), shuffled, size)
    else:
        chosen = shuffled[:size]
    validation_mask = np.zeros(count, dtype=bool)
    validation_mask[chosen] = True
    if not validation_mask.any():
        raise DataError(
            "no row can be held out: every class has a single row",
            where=rows.source,
            hint="Set data.validation=<file>",
        )
    if validation_mask.all():
        group_count = len(set(rows.column(str(group_column))))
        name = group_column if group_setting is None else f"value in the column {group_setting!r}"
        action = "set data.validation=<file>"
        if group_setting is not None:
            action += ", without data.group"
        if group_count == 1:
            problem = f"all rows have the same {name}, and stay in one split"
            hint = f"{action[0].upper()}{action[1:]}"
        else:
            problem = (
                f"rows with the same {name} stay in one split, and the {group_count:,} groups are"
                f" too large to hold out {fraction:g} of the rows and leave rows to train on"
            )
            hint = f"Lower data.validation_fraction, set another data.seed, or {action}"
        raise DataError(f"no row can be held out: {problem}", where=rows.source, hint=hint)
    # Skipped rows and lines of the file are counted once, in the training rows.
    validation = replace(
        rows.select(validation_mask),
        bad=BadRows(rows.source, rows.bad.unit, rows.bad.files),
        unused=Counter(),
    )
    return rows.select(~validation_mask, "held out for validation"), validation


def sample_rows(rows: Rows, size: int | None, seed: int, setting: str = "sample") -> Rows:
    """``size`` rows, sampled without replacement, in order; all rows if there are fewer.

    ``setting``: the name of the setting with the size.
    """
    if size is None or size >= len(rows):
        return rows
    generator = np.random.Generator(np.random.PCG64([seed, 2]))
    sampled_mask = np.zeros(len(rows), dtype=bool)
    sampled_mask[generator.choice(len(rows), size, replace=False)] = True
    return rows.select(sampled_mask, f"not drawn ({setting})")


def _draw_stratified(codes: np.ndarray, shuffled: np.ndarray, size: int) -> np.ndarray:
    """``size`` rows, if possible, in the proportions of the classes ``codes`` [rows]."""
    shuffled_codes = codes[shuffled]
    counts = np.bincount(shuffled_codes)
    order = np.argsort(shuffled_codes, kind="stable")  # by class, shuffled within each class
    starts = np.cumsum(counts) - counts
    quotas = zip(starts, _class_quotas(counts, size), strict=True)
    drawn: np.ndarray = shuffled[np.concatenate([order[start : start + n] for start, n in quotas])]
    return drawn


def _draw_groups(codes: np.ndarray, shuffled: np.ndarray, size: int) -> np.ndarray:
    """At least ``size`` rows: all rows of the first groups in the order ``shuffled``.

    ``codes`` [rows]: the group of each row.
    """
    shuffled_codes = codes[shuffled]
    first_positions = np.unique(shuffled_codes, return_index=True)[1]
    groups = shuffled_codes[np.sort(first_positions)]
    group_ends = np.cumsum(np.bincount(codes)[groups])
    return np.flatnonzero(np.isin(codes, groups[: np.searchsorted(group_ends, size) + 1]))


def value_codes(rows: Rows, name: str) -> np.ndarray:
    """Code of each row's value in a column, by first occurrence, int32 [rows]."""
    encoded = pc.dictionary_encode(rows.arrow_column(name))
    numbers = [np.asarray(chunk.indices, dtype=np.int32) for chunk in encoded.chunks]
    return np.concatenate(numbers)


def _class_quotas(counts: np.ndarray, total: int) -> np.ndarray:
    """Rows to hold out per class: proportional to ``counts``, in sum ``total`` if possible."""
    exact = counts * (total / counts.sum())
    maximum = np.maximum(counts - 1, 0)
    quotas = np.minimum(np.floor(exact).astype(np.int64), maximum)
    for class_index in np.argsort(-(exact - np.floor(exact)), kind="stable"):
        if quotas.sum() < total and quotas[class_index] < maximum[class_index]:
            quotas[class_index] += 1
    return quotas
