"""One of C classes a row, from a text or a pair of texts.

    ℓ = −log softmax(z)_y        over the row's logits z [C] and its class y

Metrics: accuracy; F1 macro (over the classes that stand in truth or answers), micro, and of two
classes the binary one, whose positive class is the last, as in GLUE; Matthews' correlation
(0 where either side is constant); the mean loss.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from bertft.config.data import DataConfig
from bertft.data.batch import Batch
from bertft.tasks.shared.agreement import confusion, f1, matthews
from bertft.tasks.shared.classes import class_names, class_numbers, class_settings, listed_classes
from bertft.tasks.shared.scores import log_softmax, precise, softmax
from bertft.tasks.shared.sequence import SequenceTask

__all__ = ["Task"]


class Task(SequenceTask):
    """Features: ``labels`` int64 [rows], the number of the class."""

    name = "classification"
    problem_type = "single_label_classification"
    default_metric = "accuracy"

    def __init__(self, config: DataConfig, labels: Sequence[str] | None) -> None:
        self.classes = class_names(labels, self.name)
        super().__init__(config, labels)

    @classmethod
    def labels_of(cls, model_config: Mapping[str, Any]) -> list[str]:
        return listed_classes(model_config)

    @property
    def metric_names(self) -> tuple[str, ...]:
        binary = ("f1",) if len(self.classes) == 2 else ()
        return ("accuracy", *binary, "f1_macro", "f1_micro", "matthews", "loss")

    def model_settings(self) -> dict[str, Any]:
        return class_settings(self.classes, self.problem_type)

    def targets(self, labels: Sequence[Any]) -> np.ndarray:
        return class_numbers(labels, self.classes)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(precise(logits), batch.labels["labels"], reduction="sum")

    def scores(self, logits: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        counts = confusion(targets, logits.argmax(1), len(self.classes))
        right, truth, given = np.diag(counts), counts.sum(1), counts.sum(0)
        each = f1(right, truth, given)
        values = {
            "accuracy": right.sum() / counts.sum(),
            "f1_macro": each[truth + given > 0].mean(),
            "f1_micro": f1(right.sum(), truth.sum(), given.sum()),
            "matthews": matthews(counts),
            "loss": -log_softmax(logits)[np.arange(len(targets)), targets].mean(),
        }
        if len(self.classes) == 2:
            values["f1"] = each[1]
        return values

    def row_terms(self, logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """The true class, the given one, the loss."""
        losses = -log_softmax(logits)[np.arange(len(targets)), targets]
        return np.stack([targets, logits.argmax(1), losses], 1)

    def of_rows(self, terms: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
        classes, draws = len(self.classes), len(weights)
        cells = (terms[:, 0] * classes + terms[:, 1]).astype(np.int64)
        filled, place = np.unique(cells, return_inverse=True)
        counts = np.zeros((draws, classes**2))
        counts[:, filled] = weights @ np.eye(len(filled))[place]
        table, rows = counts.reshape(draws, classes, classes), weights.sum(1)
        right = np.diagonal(table, axis1=1, axis2=2)
        truth, given = table.sum(2), table.sum(1)
        each, seen = f1(right, truth, given), truth + given > 0
        values = {
            "accuracy": right.sum(1) / rows,
            "f1_macro": (each * seen).sum(1) / seen.sum(1),
            "f1_micro": f1(right.sum(1), truth.sum(1), given.sum(1)),
            "matthews": matthews(table),
            "loss": weights @ terms[:, 2] / rows,
        }
        return values | ({"f1": each[:, 1]} if classes == 2 else {})

    def answers(self, logits: np.ndarray, features: Any) -> Iterator[dict[str, Any]]:
        """``label``, its ``score`` (probability), and the ``scores`` of all classes by name."""
        for row in softmax(logits).tolist():
            scores = dict(zip(self.classes, row, strict=True))
            label = max(scores, key=scores.__getitem__)
            yield {"label": label, "score": scores[label], "scores": scores}
