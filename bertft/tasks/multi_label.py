"""Any number of C labels a row, none included, each decided by itself.

    ℓ = Σ_c softplus(z_c) − y_c z_c                     y ∈ {0, 1}^C: C terms a row
    soft: Σ_c T² · KL(σ(t_c/T) ‖ σ(z_c/T))              to a teacher's logits t [C]
    label c is given where sigmoid(z_c) ≥ threshold     (0.5 in the metrics)

Metrics: F1 micro; macro (a label that is neither true nor given counts 0); samples (the mean of
the rows' own, where a rightly empty answer counts 1); accuracy (rows with exactly the true
labels); the mean loss.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from bertft.config.data import DataConfig
from bertft.data.batch import Batch
from bertft.tasks.shared.agreement import f1
from bertft.tasks.shared.classes import class_names, class_numbers, class_settings, listed_classes
from bertft.tasks.shared.scores import log_sigmoid, precise, sigmoid
from bertft.tasks.shared.sequence import SequenceTask
from bertft.tasks.shared.soft import bernoulli

__all__ = ["Task"]


class Task(SequenceTask):
    """Features: ``labels`` float32 [rows, C], 1 where the row has the label.

    ``threshold`` is that of ``answers``; metrics keep to 0.5, so that runs compare.
    """

    name = "multi_label"
    problem_type = "multi_label_classification"
    default_metric = "f1_micro"
    threshold = 0.5

    def __init__(self, config: DataConfig, labels: Sequence[str] | None) -> None:
        self.classes = class_names(labels, self.name)
        super().__init__(config, labels)

    @classmethod
    def labels_of(cls, model_config: Mapping[str, Any]) -> list[str]:
        return listed_classes(model_config)

    @property
    def metric_names(self) -> tuple[str, ...]:
        return ("f1_micro", "f1_macro", "f1_samples", "accuracy", "loss")

    def model_settings(self) -> dict[str, Any]:
        return class_settings(self.classes, self.problem_type)

    def targets(self, labels: Sequence[Any]) -> np.ndarray:
        counts = [len(row) for row in labels]
        columns = class_numbers([name for row in labels for name in row], self.classes)
        targets = np.zeros((len(labels), len(self.classes)), np.float32)
        targets[np.repeat(np.arange(len(labels)), counts), columns] = 1.0
        return targets

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        logits = precise(logits)
        targets = batch.labels["labels"].to(logits.dtype)
        return F.binary_cross_entropy_with_logits(logits, targets, reduction="sum")

    def soft_terms(self, batch: Batch) -> int:
        return len(batch) * len(self.classes)

    def soft_loss(
        self, logits: Tensor, teacher: Tensor, batch: Batch, temperature: float
    ) -> Tensor:
        return bernoulli(logits, teacher, temperature)

    def agreement(self, one: np.ndarray, other: np.ndarray, features: Any) -> float:
        return float(((one >= 0) == (other >= 0)).all(1).mean())

    def scores(self, logits: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        truth, given = targets > 0.5, sigmoid(logits) >= 0.5
        both = np.logical_and(truth, given)
        entropy = -np.where(truth, log_sigmoid(logits), log_sigmoid(-logits))
        return {
            "f1_micro": f1(both.sum(), truth.sum(), given.sum()),
            "f1_macro": f1(both.sum(0), truth.sum(0), given.sum(0)).mean(),
            "f1_samples": f1(both.sum(1), truth.sum(1), given.sum(1), 1.0).mean(),
            "accuracy": (truth == given).all(1).mean(),
            "loss": entropy.mean(),
        }

    def row_terms(self, logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Of each label: rightly given, true, given; then F1, exactness and loss of the row."""
        truth, given = targets > 0.5, sigmoid(logits) >= 0.5
        both = np.logical_and(truth, given)
        entropy = -np.where(truth, log_sigmoid(logits), log_sigmoid(-logits))
        own = f1(both.sum(1), truth.sum(1), given.sum(1), 1.0)
        ends = np.stack([own, (truth == given).all(1), entropy.mean(1)], 1)
        return np.concatenate([both, truth, given, ends], 1)

    def of_rows(self, terms: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
        sums, rows = weights @ terms, weights.sum(1)
        both, truth, given = sums[:, :-3].reshape(len(weights), 3, -1).swapaxes(0, 1)
        return {
            "f1_micro": f1(both.sum(1), truth.sum(1), given.sum(1)),
            "f1_macro": f1(both, truth, given).mean(1),
            "f1_samples": sums[:, -3] / rows,
            "accuracy": sums[:, -2] / rows,
            "loss": sums[:, -1] / rows,
        }

    def answers(self, logits: np.ndarray, features: Any) -> Iterator[dict[str, Any]]:
        """``labels`` whose probability reaches the threshold, and the ``scores`` of all by name."""
        for row in sigmoid(logits).tolist():
            scores = dict(zip(self.classes, row, strict=True))
            given = [name for name, score in scores.items() if score >= self.threshold]
            yield {"labels": given, "scores": scores}
