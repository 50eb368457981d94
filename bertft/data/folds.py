"""Folds of a cross-validation: one fold of the training rows is the test split.

    rows = fold 1 + … + fold K          test = fold k          train and validation: the others

scikit-learn draws the folds: stratified by class if each row has one (StratifiedKFold), rows with
the same group in one fold if there are groups (StratifiedGroupKFold, GroupKFold), else at random
(KFold). They depend on the rows, the number of folds, the repetition and data.seed alone:
repetition r is drawn with the seed data.seed + r − 1.
"""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from bertft.config.data import DataConfig
from bertft.data.hold_out import value_codes
from bertft.data.rows import BadRows, Rows
from bertft.data.schema import RowSchema
from bertft.errors import DataError, UsageError
from bertft.utils.messages import quote_value

if TYPE_CHECKING:
    from sklearn.model_selection import BaseCrossValidator

__all__ = ["assign_folds", "hold_out_fold", "rare_classes"]

_INSTALL_HINT = 'Install it: pip install "bertft[cross-validation]"'


def assign_folds(rows: Rows, config: DataConfig, schema: RowSchema) -> np.ndarray:
    """The fold of each row, int64 [rows] from 1 to data.folds.

    Raises:
        DataError: there are fewer rows, groups or rows of every class than folds.
        UsageError: scikit-learn is not installed.
    """
    folds, count = config.folds, len(rows)
    assert folds is not None
    if count < folds:
        raise DataError(
            f"{folds} folds need at least {folds} rows, and there are {count}",
            where=rows.source,
            hint="Choose a smaller number of folds, or add rows",
        )
    classes = value_codes(rows, "label") if _has_class_per_row(rows) else None
    groups = None
    if schema.group_field is not None:
        groups = value_codes(rows, schema.group_field)
        group_count = int(groups.max()) + 1
        if group_count < folds:
            name = config.group if schema.group_field == "group" else schema.group_field
            raise DataError(
                f"{folds} folds need at least {folds} groups, and the column {name!r} has"
                f" {group_count} distinct {'value' if group_count == 1 else 'values'}",
                where=rows.source,
                hint="Choose a smaller number of folds"
                + (", or another column of groups" if schema.group_field == "group" else ""),
            )
    if classes is not None:
        _check_largest_class(rows, classes, folds)
    splitter = _make_splitter(
        folds, config.seed + config.repeat - 1, classes is not None, groups is not None
    )
    assigned = _assign(splitter, count, classes, groups)
    if groups is not None and len(np.unique(assigned)) < folds:
        # The greedy choice of StratifiedGroupKFold can leave a fold empty if groups are large.
        splitter = _make_splitter(folds, config.seed + config.repeat - 1, False, True)
        assigned = _assign(splitter, count, None, groups)
    return assigned


def hold_out_fold(rows: Rows, config: DataConfig, schema: RowSchema) -> tuple[Rows, Rows]:
    """(the other rows, the rows of fold data.fold), both in their order."""
    is_held_out = assign_folds(rows, config, schema) == config.fold
    # Skipped rows and lines of the file are counted once, in the training rows.
    fold = replace(
        rows.select(is_held_out),
        bad=BadRows(rows.source, rows.bad.unit, rows.bad.files),
        unused=Counter(),
    )
    return rows.select(~is_held_out, "held out as a fold"), fold


def rare_classes(rows: Rows, folds: int) -> list[str]:
    """The classes with fewer rows than folds: some folds have no row of them."""
    if not _has_class_per_row(rows):
        return []
    counts = Counter(rows.column("label"))
    return sorted(name for name, count in counts.items() if count < folds)


def _has_class_per_row(rows: Rows) -> bool:
    if "label" not in rows.columns:
        return False
    kind = rows.table.schema.field("label").type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _check_largest_class(rows: Rows, classes: np.ndarray, folds: int) -> None:
    sizes = np.bincount(classes)
    largest = int(sizes.max())
    if largest >= folds:
        return
    name = rows.value("label", int(np.argmax(classes == sizes.argmax())))
    raise DataError(
        f"{folds} folds need a class with at least {folds} rows, and the largest class,"
        f" {quote_value(name)}, has {largest}",
        where=rows.source,
        hint="Choose a smaller number of folds, or check that data.label is the column of the"
        " classes",
    )


def _make_splitter(folds: int, seed: int, stratified: bool, grouped: bool) -> BaseCrossValidator:
    try:
        from sklearn import model_selection
    except ImportError as error:
        raise UsageError(
            "folds need scikit-learn, which is not installed", hint=_INSTALL_HINT
        ) from error
    if grouped:
        name = "StratifiedGroupKFold" if stratified else "GroupKFold"
    else:
        name = "StratifiedKFold" if stratified else "KFold"
    return getattr(model_selection, name)(n_splits=folds, shuffle=True, random_state=seed)


def _assign(
    splitter: BaseCrossValidator,
    count: int,
    classes: np.ndarray | None,
    groups: np.ndarray | None,
) -> np.ndarray:
    assigned = np.zeros(count, np.int64)
    with warnings.catch_warnings():  # about classes with few rows: see ``rare_classes``
        warnings.simplefilter("ignore", UserWarning)
        for fold, (_, held_out) in enumerate(splitter.split(np.zeros(count), classes, groups), 1):
            assigned[held_out] = fold
    return assigned
