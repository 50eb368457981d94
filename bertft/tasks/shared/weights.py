"""Class weights of the training loss: as asked for, or balanced by the training labels.

classification   w_c = n / (C n_c)          n rows, n_c of class c: scikit-learn's "balanced"
multi_label      w_c = (n − n_c) / n_c      n_c rows with label c: torch's pos_weight
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bertft.config.class_weights import match_class
from bertft.config.messages import format_list
from bertft.errors import UsageError

__all__ = ["configured_class_weights", "balanced_class_weights", "balanced_label_weights"]


def configured_class_weights(configured: Any, names: Sequence[str]) -> np.ndarray:
    """fp64 [C] of a mapping or a list that was checked; a class without a weight has 1."""
    if isinstance(configured, dict):
        weight_by_class = {match_class(name, names): float(weight) for name, weight in configured.items()}
        return np.asarray([weight_by_class.get(name, 1.0) for name in names])
    return np.asarray([float(weight) for weight in configured])


def balanced_class_weights(counts: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Of ``counts`` [C], the training rows of each class. UsageError where one has none."""
    _raise_for_classes(counts == 0, names, "no training row")
    return counts.sum() / (len(counts) * counts)


def balanced_label_weights(counts: np.ndarray, rows: int, names: Sequence[str]) -> np.ndarray:
    """Of ``counts`` [C] among ``rows``. UsageError where a label is nowhere or everywhere."""
    _raise_for_classes(counts == 0, names, "no training row")
    _raise_for_classes(counts == rows, names, "every training row")
    return (rows - counts) / counts


def _raise_for_classes(wrong: np.ndarray, names: Sequence[str], rows_described: str) -> None:
    if wrong.any():
        affected = format_list([name for name, is_wrong in zip(names, wrong, strict=True) if is_wrong], 8)
        raise UsageError(
            f"{rows_described} has {affected}: there is nothing to balance", where="loss.class_weights",
            hint="Name weights: {label: weight}",
        )  # fmt: skip
