"""Logits → probabilities in fp64, for metrics and predictions. Shapes [rows, C]."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from bertft.data.batch import to_device

__all__ = [
    "are_finite",
    "log_sigmoid",
    "log_softmax",
    "pad_sequences",
    "segment_log_sum_exp",
    "sigmoid",
    "softmax",
    "to_loss_precision",
]


def pad_sequences(values: Tensor, lengths: Tensor) -> Tensor:
    """Concatenated [N, ...] → padded [B, longest, ...], with −∞ as padding.

    ``lengths`` is on the CPU, so that the positions are computed without a device sync.
    """
    longest = int(lengths.max())
    is_token = np.arange(longest) < lengths.numpy()[:, None]
    empty = values.new_full((is_token.size, *values.shape[1:]), float("-inf"))
    filled = empty.index_copy(0, to_device(np.flatnonzero(is_token), values.device), values)
    return filled.unflatten(0, is_token.shape)


def to_loss_precision(logits: Tensor) -> Tensor:
    """Logits in the precision that losses are computed in: fp32, or fp64 where they are fp64."""
    return logits if logits.element_size() == 8 else logits.float()


def are_finite(logits: np.ndarray) -> bool:
    """Whether there are logits and all of them are finite; if not, no metric is defined."""
    return len(logits) > 0 and bool(np.isfinite(logits).all())


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def segment_log_sum_exp(values: np.ndarray, starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """log Σ exp [B] of each segment of ``values`` [N], by ``starts`` and ``sizes`` [B]."""
    highest = np.maximum.reduceat(values, starts)
    shifted = np.exp(values - np.repeat(highest, sizes))
    return highest + np.log(np.add.reduceat(shifted, starts))


def softmax(logits: np.ndarray) -> np.ndarray:
    return np.exp(log_softmax(logits))


def log_sigmoid(logits: np.ndarray) -> np.ndarray:
    return -np.logaddexp(0.0, -logits.astype(np.float64))


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return np.exp(log_sigmoid(logits))
