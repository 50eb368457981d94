"""The interface of a task, and what every command does with one.

    BaseTask         encoding, losses, metrics and output of a task
    build_task       the task that ``data.task`` names
    detect_task      the task that a transformers folder was trained for

Everything that a task computes is independent of the layout: sequence-level logits are [B, C],
token-level logits are [N, C] in the order of ``Batch.input_ids``, whether the batch was padded or
not.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from bertft.config.data import DataConfig
from bertft.config.loss import LossConfig
from bertft.config.registry import METRICS, TASKS
from bertft.config.task_facts import LOWER_IS_BETTER, head_classes, is_metric_function
from bertft.data.batch import Batch, BatchSeed
from bertft.data.features import EncodeFunction, FeatureTable
from bertft.data.findings import Finding
from bertft.data.rows import RowError
from bertft.errors import UsageError
from bertft.tasks.class_probabilities import ClassProbabilities
from bertft.tasks.report_items import ReportItem
from bertft.tasks.row_answers import RowAnswers
from bertft.tasks.shared.conformal import ConformalSets
from bertft.tasks.shared.encoding import DEFAULT_MAX_LENGTH
from bertft.tasks.shared.input_free import InputFreeLosses
from bertft.tasks.shared.losses import categorical_kl_loss
from bertft.tasks.shared.metric_function import MetricFunction
from bertft.utils.messages import Problem, closest_name, format_list

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "BaseTask",
    "Threshold",
    "build_task",
    "detect_task",
]

# Decision threshold: one probability, or one per label name.
Threshold = float | dict[str, float]


class BaseTask(ABC):
    """A task: how rows are encoded, what the loss is, how predictions are scored and written.

    A new task derives from this class, or from ``shared.sequence_task.SequenceTask`` if it has one
    vector of logits per row, and implements:

    - ``name``, ``auto_class``, ``default_metric``, ``prediction_fields``
    - head: ``head_config``
    - encoding: ``make_encoder``
    - losses: ``loss``; ``count_loss_terms`` if it is not one term per label
    - metrics: ``metric_names``, ``compute_metrics``
    - output: ``decode_predictions``

    The other methods have defaults. A ``TaskSpec`` registers the task.

    Args:
        config: the group ``data`` of the settings.
        labels: class names in order; None for a task without classes.

    Raises:
        UsageError: ``config.metric`` is not a metric of the task.
    """

    name: ClassVar[str]
    auto_class: ClassVar[str]  # the transformers Auto class with the head
    default_metric: ClassVar[str]
    prediction_fields: ClassVar[tuple[str, ...]] = ()  # keys of ``decode_predictions``
    max_prediction_rows: ClassVar[int | None] = None  # rows per block; None: no limit of the task
    level: ClassVar[str] = "sequence"  # "sequence": logits [B, C]; "token": logits [N, C]
    label_columns: ClassVar[tuple[str, ...]] = ("labels",)  # columns of the features, for the loss
    default_max_length: ClassVar[int] = DEFAULT_MAX_LENGTH
    # Settings of ``data`` that predictions depend on; a merged folder keeps them.
    prediction_settings: ClassVar[tuple[str, ...]] = ()
    # Whether a feature is the same input in every epoch (masked tokens are drawn again).
    has_fixed_inputs: ClassVar[bool] = True
    # Whether the head trains as a new module even if the checkpoint has one.
    trains_new_head: ClassVar[bool] = True
    reads_pairs: ClassVar[bool] = False  # whether its rows always have two texts
    needs_labels: ClassVar[bool] = True  # whether rows without labels cannot be trained on
    text_columns: ClassVar[tuple[str, ...]] = ("text", "text_pair")  # those that identify a row
    label_key: ClassVar[str] = "true_label"  # of ``decode_labels``
    answer_noun: ClassVar[str] = "answer"  # what ``row_answers`` returns, for the head of a table
    answer_score: ClassVar[str] = ""  # name of their ``scores``
    lower_answer_score_is_better: ClassVar[bool] = False

    # The probability from which a label, the second of two classes or no answer is predicted; None:
    # the task does not use one.
    threshold: Threshold | None = None
    # How prediction sets are computed, if they were calibrated.
    conformal: ConformalSets | None = None
    conformal_fields: ClassVar[tuple[str, ...]] = ()  # keys of ``decode_predictions`` then
    # The Python function in data.metric. It is set where the command line names it.
    metric_function: MetricFunction | None = None

    def __init__(self, config: DataConfig, labels: Sequence[str] | None) -> None:
        self.config, self.class_names = config, list(labels) if labels is not None else None
        known_metrics = (*self.selection_metrics, *self.registered_metrics())
        is_known = config.metric in known_metrics or is_metric_function(config.metric)
        if config.metric is not None and not is_known:
            closest = closest_name(config.metric, known_metrics)
            class_count = f" of {len(self.class_names)} classes" if self.class_names else ""
            raise UsageError(
                f"{self.name}{class_count} has no metric {config.metric!r}",
                where="data.metric",
                hint=f"{f'Did you mean {closest!r}? ' if closest else ''}Available metrics:"
                f" {', '.join(known_metrics)}",
            )

    # Head: the entries of the transformers config for the output layer.

    @abstractmethod
    def head_config(self) -> dict[str, Any]:
        """Entries of the transformers config: num_labels, id2label, label2id, problem_type."""

    @classmethod
    def matches_config(cls, model_config: Mapping[str, Any]) -> bool:
        """Whether a transformers config (as in ``config.json``) describes this task's head.

        A config that names several heads describes none.
        """
        return head_classes(model_config) == {cls.auto_class.removeprefix("AutoModel")}

    @classmethod
    def class_names_from_config(cls, model_config: Mapping[str, Any]) -> list[str] | None:
        """The class names in a transformers config; None for a task without classes."""
        return None

    @property
    def aligns_base_head(self) -> bool:
        """Whether the outputs of a head in the checkpoint are matched with the task's classes.

        A task without classes may also keep such a head, if it predicts a number.
        """
        return self.class_names is not None

    def init_head(self, head: Mapping[str, Tensor], features: FeatureTable) -> None:
        """Initialize the new ``head``, parameters by name, in place from the training ``features``.

        Called once, before the first step of a run.
        """

    # Encoding: rows → features → the batch that runs.

    @abstractmethod
    def make_encoder(self, tokenizer: PreTrainedTokenizerBase, max_length: int) -> EncodeFunction:
        """The function that ``data.features.featurize`` maps over chunks of rows."""

    def cache_key(self) -> list[Any]:
        """JSON values that features depend on, in addition to rows, tokenizer and max_length."""
        package = TASKS.package(self.name) if self.name in TASKS else None
        return [self.name, self.class_names, *([str(package)] if package is not None else [])]

    def no_feature_error(self, max_length: int) -> RowError:
        """The error of a row that has no feature."""
        return RowError(
            "no tokens",
            "the tokenizer gives no tokens for this row",
            hint="Check that the text column has texts in the script of the tokenizer",
        )

    def train_transform(self, batch: Batch, seed: BatchSeed) -> Batch:
        """The batch to train on, if it is random (masked tokens, for example).

        A function of the batch and ``seed`` alone, so that resumed runs and several processes see
        the same batch.
        """
        return batch

    def predict_transform(self, batch: Batch) -> Batch:
        """The batch to predict; ``selected_tokens`` can limit the tokens that the head sees."""
        return batch

    # Losses: sums over the terms of a batch, for labels and for a teacher.

    def count_loss_terms(self, batch: Batch) -> int:
        """Number of loss terms in the batch; the loss of a step is Σ loss / Σ terms.

        The default is one term per value of the column ``labels``.
        """
        return batch.labels["labels"].numel()

    @abstractmethod
    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Sum (not mean) of the loss terms of the batch, fp32 (fp64 for fp64 logits)."""

    def configure_loss(self, settings: LossConfig, features: FeatureTable) -> None:
        """Apply ``settings`` to ``loss``; balanced weights come from the training ``features``.

        The metric ``loss`` stays the plain loss. Only for tasks with class_probabilities.
        """

    def input_free_losses(self, features: FeatureTable) -> InputFreeLosses | None:
        """The loss of the best prediction that ignores the input, per feature; None: not known.

        A run whose training loss stays at this level has collapsed (``bertft.training.collapse``).
        """
        return None

    def input_free_metric(self, features: FeatureTable) -> float | None:
        """Their mean as the metric ``loss``; None also if training minimizes another loss."""
        losses = self.input_free_losses(features)
        return None if losses is None else losses.mean(np.arange(len(features)))

    def find_problems(self, loss: LossConfig, tune_threshold: bool) -> Iterator[Problem]:
        """Settings that do not fit the classes, which are known only after the data is read."""
        yield from ()

    def count_distillation_terms(self, batch: Batch) -> int:
        """Number of terms of ``distillation_loss``: all sequences, or the selected tokens."""
        mask = self.distillation_mask(batch)
        return len(batch) if mask is None else int(mask.sum())

    def distillation_loss(
        self, logits: Tensor, teacher: Tensor, batch: Batch, temperature: float
    ) -> Tensor:
        """Sum over the terms of the loss to a teacher's logits, fp32 (fp64 for fp64 logits).

        The default is for classes that exclude each other: Σ T² · KL(teacher ‖ student).
        """
        return categorical_kl_loss(logits, teacher, temperature, self.distillation_mask(batch))

    def distillation_mask(self, batch: Batch) -> Tensor | None:
        """Which tokens, bool [N], learn from a teacher; None at sequence level: every sequence.

        The default is the tokens whose class in ``labels`` is not −100.
        """
        if self.level == "sequence":
            return None
        has_label = batch.labels["labels"] != -100
        no_tokens = torch.zeros(batch.input_ids.shape[0], dtype=torch.bool, device=batch.device)
        return no_tokens.index_copy(0, batch.labelled_indices("token"), has_label)

    @property
    def can_distill_unlabelled(self) -> bool:
        """Whether ``distillation_loss`` has terms for a sequence without labels."""
        return self.level == "sequence"

    # Metrics: from the logits of a whole split, and from statistics per row.

    @property
    @abstractmethod
    def metric_names(self) -> tuple[str, ...]:
        """The keys of ``compute_metrics``; some depend on the classes.

        ``group/metric`` is the metric of a group, such as an entity type, with its own table.
        """

    @property
    def selection_metrics(self) -> tuple[str, ...]:
        """The metrics that can select a checkpoint."""
        return self.metric_names

    @property
    def metric_note(self) -> str:
        """Additional information about the metrics, such as the positive class; may be empty."""
        return ""

    @property
    def metric(self) -> str:
        """The metric that selects the best checkpoint."""
        return self.config.metric or self.default_metric

    def is_better(self, new: float, old: float | None) -> bool:
        """Whether ``new`` is better than ``old`` (None: no value yet). NaN is never better."""
        if math.isnan(new):
            return False
        if old is None:
            return True
        return new > old if self.higher_is_better else new < old

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger value of ``metric`` is better."""
        if is_metric_function(self.metric):
            return self.config.metric_direction != "lower"
        return self.metric not in LOWER_IS_BETTER

    def reduce_outputs(self, logits: Tensor, batch: Batch) -> Tensor:
        """What ``compute_metrics`` needs of a batch's logits; the default is all of them."""
        return logits

    @abstractmethod
    def compute_metrics(self, logits: np.ndarray, features: FeatureTable) -> dict[str, float]:
        """All metrics of a split.

        Shapes:
            logits: [rows, C] in the order of ``features``; at token level [tokens, C], features end
                to end; what ``reduce_outputs`` returns, if the task overrides it.
        """

    def registered_metrics(self) -> tuple[str, ...]:
        """Names of the metrics that other packages register for this task."""
        return tuple(
            name
            for name, description in METRICS.specs().items()
            if description.compute is not None and self.name in description.tasks
        )

    def compute_all_metrics(self, logits: np.ndarray, features: FeatureTable) -> dict[str, float]:
        """``compute_metrics``, the registered metrics and ``metric_function``.

        The latter are NaN if all of the task's own metrics are NaN.
        """
        values = self.compute_metrics(logits, features)
        defined = not all(math.isnan(value) for value in values.values())
        for name in self.registered_metrics():
            compute = METRICS.implementation(name, "compute")
            values[name] = float(compute(self, logits, features)) if defined else math.nan
        if self.metric_function is not None:
            values[self.metric_function.name] = (
                self.metric_function(*self.metric_inputs(logits, features)) if defined else math.nan
            )
        return values

    def metric_inputs(
        self, logits: np.ndarray, features: FeatureTable
    ) -> tuple[np.ndarray, np.ndarray]:
        """The labels and scores for ``metric_function``; arguments as in ``compute_metrics``."""
        raise NotImplementedError(f"{self.name} has no labels and scores per row")

    def undefined_metrics(self) -> dict[str, float]:
        """NaN for every metric: without rows, or if a logit is not finite."""
        return dict.fromkeys(self.metric_names, math.nan)

    def per_row_statistics(
        self, logits: np.ndarray, features: FeatureTable
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Statistics that determine the metrics: rows [R], ascending, and fp64 [R, K].

        Arguments as in ``compute_metrics``. None if the task has none, or a logit is not finite.
        """
        return None

    def metrics_from_statistics(
        self, statistics: np.ndarray, weights: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Metrics [B] over rows with ``statistics`` [R, K], row r counted ``weights`` [B, R] times.

        With weights of 1 they are those of ``compute_metrics``. Metrics that are not a function of
        such statistics (a best threshold, for example) are left out.
        """
        return {}

    def row_answers(self, logits: np.ndarray, features: FeatureTable) -> RowAnswers | None:
        """The answers on the rows of ``per_row_statistics``, for the comparison of two runs.

        Arguments as in ``compute_metrics``, with finite logits. None: the rows are not listed.
        """
        return None

    def prediction_agreement(
        self, logits_a: np.ndarray, logits_b: np.ndarray, features: FeatureTable
    ) -> float:
        """Share of ``features`` for which the logits of two models give the same prediction."""
        return float((logits_a.argmax(-1) == logits_b.argmax(-1)).mean())

    # Output: predictions, their calibration, and what the report shows.

    @abstractmethod
    def decode_predictions(
        self, logits: np.ndarray, features: FeatureTable
    ) -> Iterator[dict[str, Any]]:
        """One prediction per row, as JSON values, in the order of ``features.rows``.

        ``logits`` are fp32, shaped as in ``compute_metrics``. Rows without a feature are left out.
        """

    def decode_labels(self, features: FeatureTable) -> Iterator[dict[str, Any]]:
        """The label of each row of ``decode_predictions``, as a JSON value of ``label_key``."""
        labels = features.rows.column("label")
        for row in np.flatnonzero(features.rows_with_features()):
            yield {self.label_key: labels[row]}

    def class_probabilities(
        self, logits: np.ndarray, features: FeatureTable
    ) -> ClassProbabilities | None:
        """Probabilities and labels of the rows of ``decode_predictions``; None without classes."""
        return None

    def report_items(self, logits: np.ndarray, features: FeatureTable) -> Iterator[ReportItem]:
        """Figures and tables of the report on labelled rows, the most important first.

        Arguments as in ``compute_metrics``.
        """
        return iter(())

    def prediction_findings(self, logits: np.ndarray, features: FeatureTable) -> Iterator[Finding]:
        """Facts about the predictions that a user should know, such as a constant output.

        Arguments as in ``compute_metrics``.
        """
        return iter(())

    def set_threshold(self, threshold: Threshold) -> None:
        """Predict with ``threshold`` from now on. UsageError if the task does not use one."""
        if self.threshold is None:
            raise UsageError(
                f"{self.name} does not support a threshold",
                where="threshold",
                hint="Leave it out",
            )
        self.threshold = threshold

    def best_threshold(self, logits: np.ndarray, features: FeatureTable) -> tuple[Threshold, str]:
        """The best threshold on ``features``, and the metric that it maximizes."""
        raise self._unsupported_error("threshold", "tune_threshold")

    def best_temperature(self, logits: np.ndarray, features: FeatureTable) -> float | None:
        """The divisor of ``logits`` that minimizes the loss; None if there is no minimum."""
        raise self._unsupported_error("temperature", "calibrate")

    def calibration_error(self, logits: np.ndarray, features: FeatureTable) -> float:
        """Expected calibration error of the probabilities, in [0, 1]."""
        raise self._unsupported_error("temperature", "calibrate")

    def conformal_scores(self, logits: np.ndarray, features: FeatureTable) -> np.ndarray:
        """The conformal score of each labelled row, fp64 [rows] (see ``shared.conformal``)."""
        raise self._unsupported_error("prediction set", "calibrate")

    def set_metrics(
        self, logits: np.ndarray, features: FeatureTable, rows: np.ndarray
    ) -> dict[str, float]:
        """Observed coverage and size of the prediction sets of ``rows`` (bool [rows])."""
        raise self._unsupported_error("prediction set", "calibrate")

    @property
    def output_fields(self) -> tuple[str, ...]:
        """The keys of ``decode_predictions``, with those of prediction sets if there are any."""
        extra = () if self.conformal is None else self.conformal_fields
        return (*self.prediction_fields, *extra)

    def set_conformal(self, sets: ConformalSets | None) -> None:
        """Predict sets from now on; None: no sets. UsageError if the task does not support them."""
        if sets is not None and not self.conformal_fields:
            raise self._unsupported_error("prediction set", "calibrate")
        self.conformal = sets

    def _unsupported_error(self, feature: str, setting: str) -> UsageError:
        return UsageError(
            f"{self.name} does not support a {feature}", where=setting, hint="Leave it out"
        )


def build_task(config: DataConfig, labels: Sequence[str] | None) -> BaseTask:
    """The task with the class names ``labels``, in order (None: a task without classes).

    Raises UsageError for an unknown task or an unknown data.metric.
    """
    return _task_class(config.task)(config, labels)


def detect_task(
    model_config: Mapping[str, Any], recorded: str | None = None
) -> tuple[str, list[str] | None]:
    """Name and class names of the task whose head a folder's ``config.json`` describes.

    ``recorded``: the task that bertft recorded in the folder.

    Raises:
        UsageError: there is no head, or no registered task has such a head.
    """
    if recorded is not None:
        return recorded, _task_class(recorded).class_names_from_config(model_config)
    for name in sorted(TASKS.names(), key=lambda name: TASKS.package(name) is not None):
        task = _task_class(name)
        if task.matches_config(model_config):
            return name, task.class_names_from_config(model_config)
    if len(head_classes(model_config)) > 1:
        raise UsageError(
            f"architectures names several heads ({format_list(model_config['architectures'])})",
            where="config.json",
            hint="Keep the class that the weights were saved from",
        )
    raise UsageError(
        f"{', '.join(model_config.get('architectures') or ['the model'])} does not have a head of a"
        " supported task",
        where="config.json",
        hint=f"Train a head first (tasks: {', '.join(TASKS.names())})",
    )


def _task_class(name: str) -> type[BaseTask]:
    cls: type[BaseTask] = TASKS.implementation(name, "task_class")
    return cls
