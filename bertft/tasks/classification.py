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
from bertft.runs.exhibits import Cell, Exhibit
from bertft.tasks.shared.agreement import confusion, f1, matthews
from bertft.tasks.shared.classes import class_names, class_numbers, class_settings, listed_classes
from bertft.tasks.shared.exhibits import class_scores, confusions, rows_to_look_at, text_of, where
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

    def answers(self, logits: np.ndarray, features: Any) -> Iterator[dict[str, Any]]:
        """``label``, its ``score`` (probability), and the ``scores`` of all classes by name."""
        for row in softmax(logits).tolist():
            scores = dict(zip(self.classes, row, strict=True))
            label = max(scores, key=scores.__getitem__)
            yield {"label": label, "score": scores[label], "scores": scores}

    def exhibits(self, logits: np.ndarray, features: Any) -> Iterator[Exhibit]:
        every = np.arange(len(features))
        truth, numbers = features.gather("labels", every), features.gather("row", every)
        probabilities = softmax(logits.astype(np.float64))
        given = probabilities.argmax(1)
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
