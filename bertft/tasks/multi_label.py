"""Any number of C labels a row, none included, each decided by itself.

    ℓ = Σ_c softplus(z_c) − y_c z_c                     y ∈ {0, 1}^C: C terms a row
    soft: Σ_c T² · KL(σ(t_c/T) ‖ σ(z_c/T))              to a teacher's logits t [C]
    label c is given where sigmoid(z_c) ≥ threshold     (0.5, or one of each label)

Metrics: F1 micro; macro (a label that is neither true nor given counts 0); samples (the mean of
the rows' own, where a rightly empty answer counts 1); accuracy (rows with exactly the true
labels); the mean loss. The training loss can be shaped (``shared.hard``), the metric is the plain
one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from bertft.config.messages import listing
from bertft.data.batch import Batch
from bertft.errors import UsageError
from bertft.runs.exhibits import Cell, Exhibit
from bertft.tasks.calibration.thresholds import best, best_micro_f1, cuts
from bertft.tasks.shared.agreement import f1
from bertft.tasks.shared.class_task import ClassTask
from bertft.tasks.shared.classes import class_numbers
from bertft.tasks.shared.exhibits import class_scores, rows_to_look_at, text_of, where
from bertft.tasks.shared.hard import Shape
from bertft.tasks.shared.hard import bernoulli as hard_bernoulli
from bertft.tasks.shared.scores import log_sigmoid, sigmoid
from bertft.tasks.shared.soft import bernoulli
from bertft.tasks.shared.weights import balanced_labels
from bertft.tasks.task import Threshold

__all__ = ["Task"]


class Task(ClassTask):
    """Features: ``labels`` float32 [rows, C], 1 where the row has the label."""

    name = "multi_label"
    answer_fields = ("labels", "scores")
    problem_type = "multi_label_classification"
    default_metric = "f1_micro"
    threshold: Threshold = 0.5

    @property
    def metric_names(self) -> tuple[str, ...]:
        return ("f1_micro", "f1_macro", "f1_samples", "accuracy", "loss")

    def targets(self, labels: Sequence[Any]) -> np.ndarray:
        counts = [len(row) for row in labels]
        columns = class_numbers([name for row in labels for name in row], self.classes)
        targets = np.zeros((len(labels), len(self.classes)), np.float32)
        targets[np.repeat(np.arange(len(labels)), counts), columns] = 1.0
        return targets

    def summed(self, logits: Tensor, labels: Tensor, shape: Shape) -> Tensor:
        return hard_bernoulli(logits, labels, shape)

    def balanced(self, targets: np.ndarray) -> np.ndarray:
        return balanced_labels(targets.sum(0, np.float64), len(targets), self.classes)

    def decide_by(self, threshold: Threshold) -> None:
        if isinstance(threshold, dict) and set(threshold) != set(self.classes):
            raise UsageError(
                f"thresholds of {listing(threshold, 8)} do not fit the labels"
                f" {listing(self.classes, 8)}", where="threshold", hint="Give one of each label",
            )  # fmt: skip
        self.threshold = threshold

    def given(self, logits: np.ndarray) -> np.ndarray:
        """Which labels each row of ``logits`` is given, bool [rows, C]."""
        threshold = self.threshold
        if isinstance(threshold, dict):
            return sigmoid(logits) >= np.array([threshold[name] for name in self.classes])
        return sigmoid(logits) >= threshold

    def decisions(self, logits: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of each label of each row, at 0.5."""
        scores = sigmoid(logits)
        right = (scores >= 0.5) == (targets > 0.5)
        return np.maximum(scores, 1 - scores).ravel(), right.ravel()

    def fitted(self, logits: np.ndarray, targets: np.ndarray) -> tuple[list[float], str]:
        """f1_micro where that chooses the checkpoint; else f1_macro, the best F1 of each label."""
        scores, truth = sigmoid(logits), targets > 0.5
        each = [cuts(scores[:, c], truth[:, c]) for c in range(len(self.classes))]
        if self.metric == "f1_micro":
            metric, places = "f1_micro", best_micro_f1(each)
        else:
            metric, places = "f1_macro", [best(label.f1(), label.thresholds) for label in each]
        return [float(c.thresholds[k]) for c, k in zip(each, places, strict=True)], metric

    def soft_terms(self, batch: Batch) -> int:
        return len(batch) * len(self.classes)

    def soft_loss(
        self, logits: Tensor, teacher: Tensor, batch: Batch, temperature: float
    ) -> Tensor:
        return bernoulli(logits, teacher, temperature)

    def agreement(self, one: np.ndarray, other: np.ndarray, features: Any) -> float:
        return float(((one >= 0) == (other >= 0)).all(1).mean())

    def scores(self, logits: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        truth, given = targets > 0.5, self.given(logits)
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
        truth, given = targets > 0.5, self.given(logits)
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
        for row, given in zip(sigmoid(logits).tolist(), self.given(logits), strict=True):
            scores = dict(zip(self.classes, row, strict=True))
            labels = [name for name, each in zip(self.classes, given, strict=True) if each]
            yield {"labels": labels, "scores": scores}

    def exhibits(self, logits: np.ndarray, features: Any) -> Iterator[Exhibit]:
        every = np.arange(len(features))
        truth, numbers = features.gather("labels", every) > 0.5, features.gather("row", every)
        wide = logits.astype(np.float64)
        given, probabilities = self.given(logits), sigmoid(wide)
        both = np.logical_and(truth, given)
        yield class_scores(both.sum(0), truth.sum(0), given.sum(0), self.classes)

        def line(place: int) -> list[Cell]:
            row = int(numbers[place])
            names = [
                ", ".join(self.classes[c] for c in np.flatnonzero(each[place])) or "none"
                for each in (truth, given)
            ]
            return [where(features.rows, row), text_of(features.rows, row), *names]

        wrong = np.where(truth, 1 - probabilities, probabilities).max(1)
        yield from rows_to_look_at(
            ("row", "text", "truth", "answer"),
            line,
            (
                np.where((truth == given).all(1), -np.inf, wrong),
                "A label is wrong, the surest of it first.",
            ),
            (-np.abs(probabilities - 0.5).min(1), "A label's probability lies closest to 0.5."),
        )
