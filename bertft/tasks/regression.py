"""A number a row, from a text or a pair of texts.

    ℓ = (z − y)²        over the row's single logit z and its number y, on the number's own scale

Metrics: Pearson's and Spearman's correlation, mean squared error (``loss`` is the same number).
A correlation is 0 where either side is constant: such answers say nothing of the order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bertft.data.batch import Batch
from bertft.runs.exhibits import Cell, Exhibit, Points
from bertft.tasks.shared.correlation import (
    pearson,
    spearman,
    weighted_pearson,
    weighted_spearman,
)
from bertft.tasks.shared.exhibits import rows_to_look_at, text_of, where
from bertft.tasks.shared.scores import precise
from bertft.tasks.shared.sequence import SequenceTask
from bertft.tasks.shared.soft import squared

__all__ = ["Task"]


class Task(SequenceTask):
    """Features: ``labels`` float32 [rows]."""

    name = "regression"
    answer_fields = ("score",)
    problem_type = "regression"
    default_metric = "pearson"

    @property
    def metric_names(self) -> tuple[str, ...]:
        return ("pearson", "spearman", "mse", "loss")

    def model_settings(self) -> dict[str, Any]:
        return {
            "num_labels": 1,
            "id2label": {0: "score"},
            "label2id": {"score": 0},
            "problem_type": self.problem_type,
        }

    def targets(self, labels: Sequence[Any]) -> np.ndarray:
        return np.asarray(labels, np.float32)

    def begin(self, head: Mapping[str, Tensor], features: Any) -> None:
        """The bias starts at the mean of the numbers.

        From zero, the first steps would all push towards the mean: with a pooler's tanh before
        the head they saturate it, and the model stays constant.
        """
        mean = float(np.mean(features.whole("labels")))
        for name, parameter in head.items():
            if name.endswith("bias") and parameter.numel() == 1:
                with torch.no_grad():
                    parameter.fill_(mean)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        values = precise(logits).squeeze(-1)
        return (values - batch.labels["labels"].to(values.dtype)).square().sum()

    def soft_loss(
        self, logits: Tensor, teacher: Tensor, batch: Batch, temperature: float
    ) -> Tensor:
        """The squared error to the teacher's number; a temperature means nothing to it."""
        return squared(logits, teacher)

    def agreement(self, one: np.ndarray, other: np.ndarray, features: Any) -> float:
        """Pearson's correlation of the two models' numbers: equal ones do not occur."""
        return float(pearson(one[:, 0].astype(np.float64), other[:, 0].astype(np.float64)))

    def scores(self, logits: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        values, targets = logits[:, 0], targets.astype(np.float64)
        error = np.square(values - targets).mean()
        return {
            "pearson": pearson(values, targets),
            "spearman": spearman(values, targets),
            "mse": error,
            "loss": error,
        }

    def row_terms(self, logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """The number given, and the true one."""
        return np.stack([logits[:, 0], targets.astype(np.float64)], 1)

    def of_rows(self, terms: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
        given, true = terms.T
        error = weights @ np.square(given - true) / weights.sum(1)
        return {
            "pearson": weighted_pearson(given, true, weights),
            "spearman": weighted_spearman(given, true, weights),
            "mse": error,
            "loss": error,
        }

    def answers(self, logits: np.ndarray, features: Any) -> Iterator[dict[str, Any]]:
        """``score``, the number."""
        for value in logits[:, 0].tolist():
            yield {"score": value}

    def exhibits(self, logits: np.ndarray, features: Any) -> Iterator[Exhibit]:
        truth, numbers = features.whole("labels"), features.whole("row")
        values = logits[:, 0]
        yield Points(
            "answers", "Truth against answer", "A point a row; on the diagonal they agree.",
            x=truth, y=values, x_title="truth", y_title="answer",
        )  # fmt: skip

        def line(place: int) -> list[Cell]:
            row = int(numbers[place])
            pair = float(truth[place]), float(values[place])
            return [where(features.rows, row), text_of(features.rows, row), *pair]

        yield from rows_to_look_at(
            ("row", "text", "truth", "answer"),
            line,
            (np.abs(values - truth).astype(np.float64), "Furthest from the truth."),
            None,
        )
