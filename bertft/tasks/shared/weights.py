"""Class weights of the training loss: as asked for, or balanced by the training labels.

classification   w_c = n / (C n_c)          n rows, n_c of class c: scikit-learn's "balanced"
multi_label      w_c = (n − n_c) / n_c      n_c rows with label c: torch's pos_weight
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bertft.config.class_weights import class_of
from bertft.config.messages import listing
from bertft.errors import UsageError

__all__ = ["asked_weights", "balanced_classes", "balanced_labels"]


def asked_weights(asked: Any, names: Sequence[str]) -> np.ndarray:
    """fp64 [C] of a mapping or a list that was checked; a class without a weight has 1."""
    if isinstance(asked, dict):
        given = {class_of(name, names): float(weight) for name, weight in asked.items()}
        return np.asarray([given.get(name, 1.0) for name in names])
    return np.asarray([float(weight) for weight in asked])


def balanced_classes(counts: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Of ``counts`` [C], the training rows of each class. UsageError where one has none."""
    _refuse(counts == 0, names, "no training row")
    return counts.sum() / (len(counts) * counts)


def balanced_labels(counts: np.ndarray, rows: int, names: Sequence[str]) -> np.ndarray:
    """Of ``counts`` [C] among ``rows``. UsageError where a label is nowhere or everywhere."""
    _refuse(counts == 0, names, "no training row")
    _refuse(counts == rows, names, "every training row")
    return (rows - counts) / counts


def _refuse(wrong: np.ndarray, names: Sequence[str], where: str) -> None:
    if wrong.any():
        found = listing([name for name, each in zip(names, wrong, strict=True) if each], 8)
        raise UsageError(
            f"{where} has {found}: there is nothing to balance", where="loss.class_weights",
            hint="Name weights: {label: weight}",
        )  # fmt: skip
