"""The loss of the best prediction that ignores the input, per training feature.

    categorical   p ∝ w · ((1 − ε) n + ε N / C)                    n [C]: terms per class, N = Σ n
    bernoulli     p_c = w_c q_c / (w_c q_c + 1 − q_c)              q_c = (1 − ε) n_c / N + ε / 2

p minimizes the mean of the losses in ``shared.losses`` over the training labels, with class weights
w and label smoothing ε. Without both it is the share of each class, and the mean loss is the
entropy of the labels. A run whose loss stays at this level has not learned from the texts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bertft.data.features import FeatureTable
from bertft.tasks.shared.losses import LossOptions

__all__ = [
    "InputFreeLosses",
    "bernoulli_losses",
    "categorical_losses",
    "count_tokens",
    "token_class_losses",
]


@dataclass(frozen=True)
class InputFreeLosses:
    """Per feature of a table: the loss, summed over its terms, and the number of terms.

    Shapes:
        sums: fp64 [features]; 0 for a feature without labels.
        terms: int64 [features].
    """

    sums: np.ndarray
    terms: np.ndarray

    @classmethod
    def of_labelled(cls, sums: np.ndarray, terms: int, features: FeatureTable) -> InputFreeLosses:
        """``sums`` [labelled features], of ``terms`` each; features without labels come last."""
        unlabelled = len(features) - len(sums)
        counts = np.full(len(sums), terms, np.int64)
        return cls(*(np.pad(values, (0, unlabelled)) for values in (sums, counts)))

    def mean(self, indices: np.ndarray) -> float | None:
        """The mean loss over the terms of the features ``indices``; None without a term."""
        terms = int(self.terms[indices].sum())
        return float(self.sums[indices].sum()) / terms if terms else None


def categorical_losses(counts: np.ndarray, options: LossOptions) -> np.ndarray | None:
    """The loss of a term of each class [C]; None with a focal loss, which has no closed form.

    ``counts`` [C]: terms per class. A class without terms has no defined loss.
    """
    if options.focal_gamma:
        return None
    smoothing, classes = options.label_smoothing, len(counts)
    weights = _class_weights(options, classes)
    masses = weights * ((1 - smoothing) * counts + smoothing * counts.sum() / classes)
    losses = -weights * _log(masses / masses.sum())
    return (1 - smoothing) * losses + smoothing * losses.mean()


def bernoulli_losses(
    counts: np.ndarray, rows: int, options: LossOptions
) -> tuple[np.ndarray, np.ndarray] | None:
    """The loss of each label [C] of a row that has it, and of one that does not.

    None with a focal loss. ``counts`` [C]: rows with the label.
    """
    if options.focal_gamma:
        return None
    smoothing, weights = options.label_smoothing, _class_weights(options, len(counts))
    frequencies = (1 - smoothing) * counts / rows + smoothing / 2
    positive_masses, negative_masses = weights * frequencies, 1 - frequencies
    total = positive_masses + negative_masses
    positive = -weights * _log(positive_masses / total)
    negative = -_log(negative_masses / total)
    present, absent = 1 - smoothing / 2, smoothing / 2  # the smoothed label
    return (
        present * positive + absent * negative,
        absent * positive + present * negative,
    )


def token_class_losses(features: FeatureTable, classes: int, ignored: int) -> InputFreeLosses:
    """Cross-entropy of the labels of tokens, of which those that equal ``ignored`` have no term."""
    counts = np.zeros(classes, np.int64)
    for labels in features.iter_chunks("labels"):
        counts += np.bincount(labels[labels != ignored], minlength=classes)
    losses = categorical_losses(counts, LossOptions())
    assert losses is not None, "there is no focal loss of tokens"
    sums, terms = [], []
    for labels, feature, size in _with_features(features, "labels"):
        has_term = labels != ignored
        owner = feature[has_term]
        sums.append(np.bincount(owner, losses[labels[has_term]], size))
        terms.append(np.bincount(owner, minlength=size))
    return InputFreeLosses(np.concatenate(sums), np.concatenate(terms))


def count_tokens(features: FeatureTable, column: str, minimum: int) -> np.ndarray:
    """Tokens per feature with a value of ``column`` of at least ``minimum``, int64 [features]."""
    return np.concatenate(
        [
            np.bincount(feature[values >= minimum], minlength=size)
            for values, feature, size in _with_features(features, column)
        ]
    )


def _with_features(
    features: FeatureTable, column: str
) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """Chunks of a ragged column: values, the feature of each value, and the number of features.

    Features are counted from the first one of the chunk.
    """
    start, end, lengths = 0, 0, features.lengths
    ends = np.cumsum(lengths, dtype=np.int64)
    for values in features.iter_chunks(column):
        end += len(values)
        size = int(np.searchsorted(ends[start:], end)) + 1
        yield values, np.repeat(np.arange(size), lengths[start : start + size]), size
        start += size


def _class_weights(options: LossOptions, classes: int) -> np.ndarray:
    return np.ones(classes) if options.weights is None else options.weights.double().cpu().numpy()


def _log(probabilities: np.ndarray) -> np.ndarray:
    """log p; 0 where p is 0, because no term has that outcome."""
    return np.log(probabilities, out=np.zeros_like(probabilities), where=probabilities > 0)
