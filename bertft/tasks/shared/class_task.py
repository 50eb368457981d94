"""A task whose answers are probabilities of named classes: classification and multi_label.

What they share: a training loss that can be shaped (``shared.hard``), one temperature for all
logits and the calibration error (``calibration.temperature``), thresholds fitted to known answers.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bertft.config import class_weights
from bertft.config.data import DataConfig
from bertft.config.loss import LossConfig
from bertft.config.messages import Problem
from bertft.data.batch import Batch
from bertft.tasks.calibration.temperature import calibration_error, fit_temperature
from bertft.tasks.shared.classes import class_names, class_settings, listed_classes
from bertft.tasks.shared.hard import Shape
from bertft.tasks.shared.sequence import SequenceTask
from bertft.tasks.shared.weights import asked_weights

__all__ = ["ClassTask"]


class ClassTask(SequenceTask):
    """Adds: ``summed`` (the loss of a shape), ``balanced`` weights, ``decisions``."""

    def __init__(self, config: DataConfig, labels: Sequence[str] | None) -> None:
        self.classes = class_names(labels, self.name)
        self.shape = Shape()
        super().__init__(config, labels)

    @classmethod
    def labels_of(cls, model_config: Mapping[str, Any]) -> list[str]:
        return listed_classes(model_config)

    def model_settings(self) -> dict[str, Any]:
        return class_settings(self.classes, self.problem_type)

    @abstractmethod
    def summed(self, logits: Tensor, labels: Tensor, shape: Shape) -> Tensor:
        """Σ of the loss terms of ``logits`` [n, C], as ``shape`` has them."""

    @abstractmethod
    def balanced(self, targets: np.ndarray) -> np.ndarray:
        """Weights [C] that the training ``targets`` balance."""

    @abstractmethod
    def decisions(self, logits: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Probability of what is likelier, and whether that is so: of each decision, both [n]."""

    @abstractmethod
    def fitted(self, logits: np.ndarray, targets: np.ndarray) -> tuple[float | list[float], str]:
        """The best threshold (one, or [C]), and the metric that it is the best of."""

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return self.summed(logits, batch.labels["labels"], self.shape)

    def problems(self, loss: LossConfig, tune_threshold: bool) -> Iterator[Problem]:
        yield from class_weights.problems(loss.class_weights, self.classes)

    def shape_loss(self, settings: LossConfig, features: Any) -> None:
        weights = settings.class_weights
        if weights is not None:
            found = (
                self.balanced(features.whole("labels"))
                if weights == class_weights.BALANCED
                else asked_weights(weights, self.classes)
            )
            weights = torch.from_numpy(found.astype(np.float64))
        self.shape = Shape(weights, settings.label_smoothing, settings.focal_gamma)

    def temperature(self, logits: np.ndarray, features: Any) -> float | None:
        targets = features.whole("labels")
        if self.decisions(logits, targets)[1].all():
            return None
        labels, plain = torch.from_numpy(targets), Shape()
        return fit_temperature(
            torch.from_numpy(logits.astype(np.float64)),
            lambda z: self.summed(z, labels, plain) / targets.size,
        )

    def calibration_error(self, logits: np.ndarray, features: Any) -> float:
        return calibration_error(*self.decisions(logits, features.whole("labels")))

    def best_threshold(
        self, logits: np.ndarray, features: Any
    ) -> tuple[float | dict[str, float], str]:
        found, metric = self.fitted(logits.astype(np.float64), features.whole("labels"))
        if isinstance(found, list):
            return dict(zip(self.classes, found, strict=True)), metric
        return found, metric
