"""Probabilities of classes next to the labels of rows, for the search for wrong labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["ClassProbabilities"]


@dataclass(frozen=True)
class ClassProbabilities:
    """What a model thinks of labels, from ``BaseTask.class_probabilities``.

    Attributes:
        probabilities: fp32 [units, C].
        labels: int64 [units], the class of each unit; or bool [units, C] if classes do not exclude
            each other.
        sizes: int64 [rows], units per row if a row has several, such as words; None: a unit is a
            row.
    """

    probabilities: np.ndarray
    labels: np.ndarray
    sizes: np.ndarray | None = None
