"""Any number of C labels a row, none included, each decided by itself.

    ℓ = Σ_c softplus(z_c) − y_c z_c                     y ∈ {0, 1}^C: C terms a row
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

    def answers(
        self, logits: np.ndarray, rows: Sequence[Mapping[str, Any]], features: Any = None
    ) -> Iterator[dict[str, Any]]:
        """``labels`` whose probability reaches the threshold, and the ``scores`` of all by name."""
        for row in sigmoid(logits).tolist():
            scores = dict(zip(self.classes, row, strict=True))
            given = [name for name, score in scores.items() if score >= self.threshold]
            yield {"labels": given, "scores": scores}
