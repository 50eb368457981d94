"""Logits → probabilities in fp64 with numpy, for metrics and predictions. Shapes [rows, C]."""

from __future__ import annotations

import numpy as np

__all__ = [
    "are_finite",
    "log_sigmoid",
    "log_softmax",
    "segment_log_sum_exp",
    "sigmoid",
    "softmax",
]


def are_finite(logits: np.ndarray) -> bool:
    """Whether there are logits and all of them are finite; if not, no metric is defined."""
    return len(logits) > 0 and bool(np.isfinite(logits).all())


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Logarithm of ``softmax``, fp64 [rows, C]."""
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def segment_log_sum_exp(values: np.ndarray, starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """log Σ exp [B] of each segment of ``values`` [N], by ``starts`` and ``sizes`` [B]."""
    highest = np.maximum.reduceat(values, starts)
    shifted = np.exp(values - np.repeat(highest, sizes))
    return highest + np.log(np.add.reduceat(shifted, starts))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of classes that exclude each other, fp64 [rows, C]."""
    return np.exp(log_softmax(logits))


def log_sigmoid(logits: np.ndarray) -> np.ndarray:
    """Logarithm of ``sigmoid``, fp64 [rows, C]."""
    return -np.logaddexp(0.0, -logits.astype(np.float64))


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Probabilities of independent labels, fp64 [rows, C]."""
    return np.exp(log_sigmoid(logits))
