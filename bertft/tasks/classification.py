"""One of C classes a row, from a text or a pair of texts.

    ℓ = −log softmax(z)_y        over the row's logits z [C] and its class y
    class 1 of two is given where softmax(z)_1 ≥ threshold, if there is one; else argmax z

Metrics: accuracy; F1 macro (over the classes that stand in truth or answers), micro, and of two
classes the binary one, whose positive class is the last, as in GLUE; Matthews' correlation
(0 where either side is constant); the mean loss. The training loss can be shaped (``shared.hard``),
the metric is the plain one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from bertft.config.loss import LossConfig
from bertft.config.messages import Problem
from bertft.errors import UsageError
from bertft.runs.exhibits import Cell, Exhibit
from bertft.tasks.calibration.thresholds import best, cuts
from bertft.tasks.shared.agreement import confusion, f1, matthews
from bertft.tasks.shared.class_task import ClassTask
from bertft.tasks.shared.classes import class_numbers
from bertft.tasks.shared.exhibits import class_scores, confusions, rows_to_look_at, text_of, where
from bertft.tasks.shared.hard import Shape, categorical
from bertft.tasks.shared.scores import log_softmax, softmax
from bertft.tasks.shared.weights import balanced_classes
from bertft.tasks.task import Threshold

__all__ = ["Task"]


class Task(ClassTask):
    """Features: ``labels`` int64 [rows], the number of the class."""

    name = "classification"
    answer_fields = ("label", "score", "scores")
    problem_type = "single_label_classification"
    default_metric = "accuracy"
    threshold: float | None = None

    @property
    def metric_names(self) -> tuple[str, ...]:
        binary = ("f1",) if len(self.classes) == 2 else ()
        return ("accuracy", *binary, "f1_macro", "f1_micro", "matthews", "loss")

    @property
    def remark(self) -> str:
        return f"f1: of the class {self.classes[1]}" if "f1" in self.metric_names else ""

    def targets(self, labels: Sequence[Any]) -> np.ndarray:
        return class_numbers(labels, self.classes)

    def summed(self, logits: Tensor, labels: Tensor, shape: Shape) -> Tensor:
        return categorical(logits, labels, shape)

    def balanced(self, targets: np.ndarray) -> np.ndarray:
        return balanced_classes(np.bincount(targets, minlength=len(self.classes)), self.classes)

    def problems(self, loss: LossConfig, tune_threshold: bool) -> Iterator[Problem]:
        yield from super().problems(loss, tune_threshold)
        if tune_threshold and len(self.classes) != 2:
            yield Problem(
                "tune_threshold", f"means nothing for {len(self.classes)} classes, of which the"
                " likeliest is given", "Leave it out: it is for two classes, or multi_label",
            )  # fmt: skip

    def decide_by(self, threshold: Threshold) -> None:
        if len(self.classes) != 2 or isinstance(threshold, dict):
            raise UsageError(
                f"{self.name} of {len(self.classes)} classes decides by no"
                f" {'thresholds of labels' if isinstance(threshold, dict) else 'threshold'}",
                where="threshold", hint="Leave it out: the likeliest class is given",
            )  # fmt: skip
        self.threshold = threshold

    def given(self, logits: np.ndarray) -> np.ndarray:
        """The number of the class that each row of ``logits`` is given."""
        if self.threshold is None:
            return logits.argmax(1)
        return (softmax(logits)[:, 1] >= self.threshold).astype(np.int64)

    def decisions(self, logits: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return softmax(logits).max(1), logits.argmax(1) == targets

    def fitted(self, logits: np.ndarray, targets: np.ndarray) -> tuple[float, str]:
        """Of the metric that chooses the checkpoint; f1 where that is the loss."""
        metric = "f1" if self.metric == "loss" else self.metric
        each = cuts(softmax(logits)[:, 1], targets == 1)
        values = []
        for given, both in zip(each.given.tolist(), each.both.tolist(), strict=True):
            missed, wrong = each.true - both, given - both
            counts = np.array([[each.rows - given - missed, wrong], [missed, both]])
            values.append(float(self._agreement(counts)[metric]))
        return float(each.thresholds[best(np.array(values), each.thresholds)]), metric

    def scores(self, logits: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        values = self._agreement(confusion(targets, self.given(logits), len(self.classes)))
        values["loss"] = -log_softmax(logits)[np.arange(len(targets)), targets].mean()
        return values

    def _agreement(self, counts: np.ndarray) -> dict[str, Any]:
        """The metrics that a confusion matrix [C, C] gives."""
        right, truth, given = np.diag(counts), counts.sum(1), counts.sum(0)
        each = f1(right, truth, given)
        values = {
            "accuracy": right.sum() / counts.sum(),
            "f1_macro": each[truth + given > 0].mean(),
            "f1_micro": f1(right.sum(), truth.sum(), given.sum()),
            "matthews": matthews(counts),
        }
        if len(self.classes) == 2:
            values["f1"] = each[1]
        return values

    def row_terms(self, logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """The true class, the given one, the loss."""
        losses = -log_softmax(logits)[np.arange(len(targets)), targets]
        return np.stack([targets, self.given(logits), losses], 1)

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
        for row, number in zip(softmax(logits).tolist(), self.given(logits), strict=True):
            scores = dict(zip(self.classes, row, strict=True))
            label = self.classes[number]
            yield {"label": label, "score": scores[label], "scores": scores}

    def exhibits(self, logits: np.ndarray, features: Any) -> Iterator[Exhibit]:
        every = np.arange(len(features))
        truth, numbers = features.whole("labels"), features.whole("row")
        probabilities = softmax(logits.astype(np.float64))
        given = self.given(logits)
        counts = confusion(truth, given, len(self.classes))
        yield confusions(counts, self.classes)
        yield class_scores(np.diag(counts), counts.sum(1), counts.sum(0), self.classes)

        def line(place: int) -> list[Cell]:
            row, own, answer = int(numbers[place]), truth[place], given[place]
            return [
                where(features.rows, row), text_of(features.rows, row), self.classes[own],
                self.classes[answer], float(probabilities[place, answer]),
            ]  # fmt: skip

        sure = probabilities[every, given]
        if len(self.classes) == 1:
            return
        second = np.partition(probabilities, -2, axis=1)[:, -2]
        yield from rows_to_look_at(
            ("row", "text", "truth", "answer", "p"),
            line,
            (np.where(truth == given, -np.inf, sure), "Answered wrongly, the surest first."),
            (second - sure, "The two likeliest classes lie closest together."),
        )
