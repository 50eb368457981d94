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
from bertft.tasks.calibration.temperature import expected_calibration_error, minimize_temperature
from bertft.tasks.shared.classes import check_class_names, classification_head_config, class_names_in_config
from bertft.tasks.shared.hard import LossOptions
from bertft.tasks.shared.sequence import SequenceTask
from bertft.tasks.shared.weights import configured_class_weights

__all__ = ["ClassTask"]


class ClassTask(SequenceTask):
    """Adds: ``loss_sum`` (the loss of a shape), ``balanced_weights`` weights, ``confidence_and_correct``."""

    def __init__(self, config: DataConfig, labels: Sequence[str] | None) -> None:
        self.classes = check_class_names(labels, self.name)
        self.loss_options = LossOptions()
        super().__init__(config, labels)

    @classmethod
    def class_names_from_config(cls, model_config: Mapping[str, Any]) -> list[str]:
        return class_names_in_config(model_config)

    def head_config(self) -> dict[str, Any]:
        return classification_head_config(self.classes, self.problem_type)

    @abstractmethod
    def loss_sum(self, logits: Tensor, labels: Tensor, options: LossOptions) -> Tensor:
        """Σ of the loss terms of ``logits`` [n, C], as ``options`` has them."""

    @abstractmethod
    def balanced_weights(self, targets: np.ndarray) -> np.ndarray:
        """Weights [C] that the training ``targets`` balance."""

    @abstractmethod
    def confidence_and_correct(self, logits: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Probability of what is likelier, and whether that is so: of each decision, both [n]."""

    @abstractmethod
    def fit_threshold(self, logits: np.ndarray, targets: np.ndarray) -> tuple[float | list[float], str]:
        """The best threshold (one, or [C]), and the metric that it is the best of."""

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return self.loss_sum(logits, batch.labels["labels"], self.loss_options)

    def find_problems(self, loss: LossConfig, tune_threshold: bool) -> Iterator[Problem]:
        yield from class_weights.class_weight_problems(loss.class_weights, self.classes)

    def configure_loss(self, settings: LossConfig, features: Any) -> None:
        weights = settings.class_weights
        if weights is not None:
            class_weight_values = (
                self.balanced_weights(features.whole("labels"))
                if weights == class_weights.BALANCED
                else configured_class_weights(weights, self.classes)
            )
            weights = torch.from_numpy(class_weight_values.astype(np.float64))
        self.loss_options = LossOptions(weights, settings.label_smoothing, settings.focal_gamma)

    def best_temperature(self, logits: np.ndarray, features: Any) -> float | None:
        targets = features.whole("labels")
        if self.confidence_and_correct(logits, targets)[1].all():
            return None
        labels, plain_options = torch.from_numpy(targets), LossOptions()
        return minimize_temperature(
            torch.from_numpy(logits.astype(np.float64)),
            lambda z: self.loss_sum(z, labels, plain_options) / targets.size,
        )

    def calibration_error(self, logits: np.ndarray, features: Any) -> float:
        return expected_calibration_error(*self.confidence_and_correct(logits, features.whole("labels")))

    def best_threshold(
        self, logits: np.ndarray, features: Any
    ) -> tuple[float | dict[str, float], str]:
        threshold, metric = self.fit_threshold(logits.astype(np.float64), features.whole("labels"))
        if isinstance(threshold, list):
            return dict(zip(self.classes, threshold, strict=True)), metric
        return threshold, metric
