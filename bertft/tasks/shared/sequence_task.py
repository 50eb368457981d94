"""Tasks with one prediction per row: one or two texts in, one vector of logits [C] out.

``SequenceTask`` encodes the texts, ``ClassTask`` adds classes, their losses and calibration.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from bertft.config import class_weights
from bertft.config.data import DataConfig
from bertft.config.loss import LossConfig
from bertft.data.batch import Batch
from bertft.data.features import EncodeFunction, FeatureTable
from bertft.data.labels import are_placeholder_names, to_class_name
from bertft.data.rows import RowError
from bertft.errors import DataError, UsageError
from bertft.tasks.shared.calibration import expected_calibration_error, minimize_temperature
from bertft.tasks.shared.encoding import encode_texts
from bertft.tasks.shared.logits import are_finite
from bertft.tasks.shared.losses import LossOptions, configured_class_weights
from bertft.tasks.task import BaseTask
from bertft.utils.messages import Problem, quote_value, suggest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "ClassTask",
    "SequenceTask",
    "check_class_names",
    "class_names_in_config",
    "class_numbers",
    "classification_head_config",
]


class SequenceTask(BaseTask):
    """A task with one vector of logits per row.

    In addition to ``BaseTask`` it implements ``encode_labels``, ``compute_scores``,
    ``row_statistics`` and ``metrics_from_statistics``; encoding and NaN handling are done here.
    """

    auto_class: ClassVar[str] = "AutoModelForSequenceClassification"
    problem_type: ClassVar[str]  # the name that transformers has for the loss of this head

    @classmethod
    def matches_config(cls, model_config: Mapping[str, Any]) -> bool:
        if not super().matches_config(model_config):
            return False
        problem_type = model_config.get("problem_type")
        if problem_type is None:  # the default rule of transformers
            is_single_output = len(class_names_in_config(model_config)) == 1
            problem_type = "regression" if is_single_output else "single_label_classification"
        return problem_type == cls.problem_type

    @property
    def aligns_base_head(self) -> bool:
        return True

    @abstractmethod
    def encode_labels(self, labels: Sequence[Any]) -> np.ndarray:
        """The feature column ``labels``: [rows] or [rows, C]."""

    @abstractmethod
    def compute_scores(self, logits: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        """Every metric from finite fp64 logits [rows, C] and the targets of at least one row."""

    @abstractmethod
    def row_statistics(self, logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Statistics [rows, K] for ``per_row_statistics``; arguments as in ``compute_scores``."""

    def per_row_statistics(
        self, logits: np.ndarray, features: FeatureTable
    ) -> tuple[np.ndarray, np.ndarray] | None:
        if not are_finite(logits):
            return None
        targets = features.read_column("labels")
        return features.read_column("row"), self.row_statistics(logits.astype(np.float64), targets)

    def make_encoder(self, tokenizer: PreTrainedTokenizerBase, max_length: int) -> EncodeFunction:
        def encode(rows: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
            columns = encode_texts(tokenizer, rows["text"], rows.get("text_pair"), max_length)
            columns["row"] = np.arange(len(rows["text"]), dtype=np.int64)
            if rows.get("label") is not None:
                columns["labels"] = self.encode_labels(rows["label"])
            return columns

        return encode

    def compute_metrics(self, logits: np.ndarray, features: FeatureTable) -> dict[str, float]:
        """All metrics; NaN without rows or if a logit is not finite."""
        if not are_finite(logits):
            return self.undefined_metrics()
        targets = features.read_column("labels")
        values = self.compute_scores(logits.astype(np.float64), targets)
        return {name: float(values[name]) for name in self.metric_names}


class ClassTask(SequenceTask):
    """A task with classes: its loss has weights, label smoothing and focal γ; it can be calibrated.

    In addition to ``SequenceTask`` it implements ``label_loss``, ``balanced_weights``,
    ``confidence_and_correct`` and ``fit_threshold``.
    """

    def __init__(self, config: DataConfig, labels: Sequence[str] | None) -> None:
        self.classes = check_class_names(labels, self.name)
        self.loss_options = LossOptions()
        super().__init__(config, labels)

    @classmethod
    def class_names_from_config(cls, model_config: Mapping[str, Any]) -> list[str]:
        return class_names_in_config(model_config)

    def head_config(self) -> dict[str, Any]:
        return classification_head_config(self.classes, self.problem_type)

    def encode_labels(self, labels: Sequence[Any]) -> np.ndarray:
        """The number of each row's class, int64 [rows]."""
        return class_numbers(labels, self.classes)

    @staticmethod
    @abstractmethod
    def label_loss(logits: Tensor, labels: Tensor, options: LossOptions) -> Tensor:
        """Sum of the loss terms of ``logits`` [n, C]; a function of ``shared.losses``."""

    @abstractmethod
    def balanced_weights(self, targets: np.ndarray) -> np.ndarray:
        """Class weights [C] that balance the training ``targets``."""

    @abstractmethod
    def confidence_and_correct(
        self, logits: np.ndarray, targets: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Probability of the more likely outcome per decision, and whether it is correct; [n]."""

    @abstractmethod
    def fit_threshold(
        self, logits: np.ndarray, targets: np.ndarray
    ) -> tuple[float | list[float], str]:
        """The best threshold (one, or [C]), and the metric that it maximizes."""

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return self.label_loss(logits, batch.labels["labels"], self.loss_options)

    def find_problems(self, loss: LossConfig, tune_threshold: bool) -> Iterator[Problem]:
        yield from class_weights.class_weight_problems(loss.class_weights, self.classes)

    def configure_loss(self, settings: LossConfig, features: FeatureTable) -> None:
        weights = settings.class_weights
        if weights is not None:
            class_weight_values = (
                self.balanced_weights(features.read_column("labels"))
                if weights == class_weights.BALANCED
                else configured_class_weights(weights, self.classes)
            )
            weights = torch.from_numpy(class_weight_values.astype(np.float64))
        self.loss_options = LossOptions(weights, settings.label_smoothing, settings.focal_gamma)

    def input_free_metric(self, features: FeatureTable) -> float | None:
        return super().input_free_metric(features) if self.loss_options.is_plain else None

    def best_temperature(self, logits: np.ndarray, features: FeatureTable) -> float | None:
        targets = features.read_column("labels")
        if self.confidence_and_correct(logits, targets)[1].all():
            return None
        labels, plain_options = torch.from_numpy(targets), LossOptions()
        return minimize_temperature(
            torch.from_numpy(logits.astype(np.float64)),
            lambda z: self.label_loss(z, labels, plain_options) / targets.size,
        )

    def calibration_error(self, logits: np.ndarray, features: FeatureTable) -> float:
        return expected_calibration_error(
            *self.confidence_and_correct(logits, features.read_column("labels"))
        )

    def class_sets(self, probabilities: np.ndarray) -> np.ndarray:
        """Which classes are in the set of each row, bool [rows, C]; [C] for a single row."""
        assert self.conformal is not None, "set_conformal was called"
        return 1 - probabilities <= self.conformal.quantile

    def names_in_set(self, probabilities: Sequence[float]) -> list[str]:
        """The names of the classes in the set of a row, the most probable one first."""
        is_in_set = self.class_sets(np.array(probabilities))
        order = np.argsort(-np.array(probabilities), kind="stable")
        return [self.classes[number] for number in order if is_in_set[number]]

    def best_threshold(
        self, logits: np.ndarray, features: FeatureTable
    ) -> tuple[float | dict[str, float], str]:
        threshold, metric = self.fit_threshold(
            logits.astype(np.float64), features.read_column("labels")
        )
        if isinstance(threshold, list):
            return dict(zip(self.classes, threshold, strict=True)), metric
        return threshold, metric


def check_class_names(labels: Sequence[str] | None, task: str) -> list[str]:
    """The names as a list. Raises UsageError if there are none, or a name is repeated."""
    names = list(labels or [])
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if not names or repeated:
        raise UsageError(
            f"{task} needs class names" if not names else f"duplicate class names: {repeated}",
            where="data.labels",
            hint="List each class once, in order, or set null to use those of the training rows",
        )
    return names


def class_numbers(labels: Sequence[Any], names: Sequence[str]) -> np.ndarray:
    """The number of each label in ``names``, int64 [rows]. DataError for an unknown label."""
    numbers = {name: number for number, name in enumerate(names)}
    try:
        return np.fromiter((numbers[str(label)] for label in labels), np.int64, len(labels))
    except KeyError as error:
        unknown = str(error.args[0])
        raise DataError(
            f"unknown label {quote_value(unknown)} ({len(names)} classes)",
            where="data.label",
            hint=suggest(unknown, names),
        ) from None


def classification_head_config(
    names: Sequence[str], problem_type: str | None = None
) -> dict[str, Any]:
    """Entries of the transformers config for a head with one output per class."""
    entries = {
        "num_labels": len(names),
        "id2label": dict(enumerate(names)),
        "label2id": {name: number for number, name in enumerate(names)},
    }
    return entries if problem_type is None else entries | {"problem_type": problem_type}


def class_names_in_config(model_config: Mapping[str, Any]) -> list[str]:
    """The class names in a transformers config, in order; by default LABEL_0 and LABEL_1.

    They come from ``id2label``, or from ``label2id`` if ``id2label`` has only the placeholders of
    transformers. UsageError if they do not name each output once, or contradict each other.
    """
    names = model_config.get("id2label") or {0: "LABEL_0", 1: "LABEL_1"}
    try:
        numbers = {int(key): name for key, name in names.items()}
    except (AttributeError, TypeError, ValueError):
        numbers = {}
    if sorted(numbers) != list(range(len(names))):
        raise UsageError(
            "the keys of id2label are not 0, 1, 2, ...",
            where="config.json",
            hint="Use the number of an output as key and its name as value",
        )
    class_names = []
    for number in range(len(numbers)):
        try:
            class_names.append(_config_class_name(numbers[number]))
        except ValueError as error:
            raise UsageError(
                f"output {number} in id2label has no valid name: {error}",
                where="config.json",
                hint="Give each output a name",
            ) from error
    repeated, count = Counter(class_names).most_common(1)[0]
    if count > 1:
        raise UsageError(
            f"id2label gives several outputs the name {quote_value(repeated)}",
            where="config.json",
            hint="Give each output in id2label a unique name",
        )
    return _reconcile_names(class_names, model_config.get("label2id"))


def _reconcile_names(names: list[str], label2id: Any) -> list[str]:
    """``names``, or those of ``label2id`` if ``names`` are placeholders.

    UsageError if both name the same output differently.
    """
    if not isinstance(label2id, Mapping):
        return names
    try:
        number_by_name = {_config_class_name(name): int(key) for name, key in label2id.items()}
    except (TypeError, ValueError):
        return names
    if are_placeholder_names(names):
        other_names = sorted(number_by_name, key=lambda name: number_by_name[name])
        is_complete = [number_by_name[name] for name in other_names] == list(range(len(names)))
        return other_names if is_complete else names
    for number, name in enumerate(names):
        other_number = number_by_name.get(name, number)
        if other_number != number:
            raise UsageError(
                f"id2label names output {number} {quote_value(name)}, but label2id gives this name"
                f" to output {other_number}",
                where="config.json",
                hint="Correct the wrong one: all predictions depend on it",
            )
    return names


def _config_class_name(value: Any) -> str:
    """A class name as text. Raises ValueError for null, a list or empty text."""
    try:
        name = to_class_name(value)
    except RowError as error:
        raise ValueError(error.detail) from None
    if name is None:
        raise ValueError("it is empty")
    return name
