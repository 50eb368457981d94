"""A task: rows → features, loss, answers and metrics; what it needs of the model's head.

One file per task, registered in ``bertft.config.registry.TASKS``. Everything that a task
computes is independent of the layout: sequence-level logits come as [B, C], token-level logits
as [N, C] in the order of ``Batch.input_ids``, whether the batch ran padded or as a stream.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from bertft.config.data import DataConfig
from bertft.config.loss import LossConfig
from bertft.config.registry import METRICS, TASKS
from bertft.config.task_facts import LOWER_IS_BETTER
from bertft.data.batch import Batch
from bertft.data.features import EncodeFunction, FeatureTable, featurize, tokenizer_hash
from bertft.data.rows import BadRows, RowError, Rows, check_skipped_share, raise_or_skip
from bertft.errors import UsageError
from bertft.tasks.report_items import ReportItem
from bertft.tasks.shared.distillation_losses import categorical_kl_loss
from bertft.utils.messages import Problem, closest_name

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "BaseTask",
    "BatchSeed",
    "Threshold",
    "build_features",
    "build_task",
    "build_unlabelled_features",
    "detect_task",
    "feature_key_parts",
]

# What decides: one probability, or one for each label by name.
Threshold = float | dict[str, float]


@dataclass(frozen=True)
class BatchSeed:
    """What a random batch is a function of: the run's ``seed`` and the ``epoch``, from 0.

    An evaluation has data.seed and no epoch: it is the same whatever the run.
    """

    seed: int
    epoch: int | None = None

    def feature_generator(self, feature: int) -> np.random.Generator:
        """Of one feature of the table, apart from the streams of all others."""
        epoch = 0 if self.epoch is None else self.epoch + 1
        return np.random.Generator(np.random.PCG64([self.seed, epoch, feature]))


class BaseTask(ABC):
    """``labels`` are the class names in order, or None where the task has no classes.

    Raises UsageError if ``config.metric`` is none of the task's.
    """

    name: ClassVar[str]
    auto_class: ClassVar[str]  # the transformers Auto class that carries the head
    level: ClassVar[str] = "sequence"  # "sequence": logits [B, C]; "token": logits [N, C]
    label_columns: ClassVar[tuple[str, ...]] = ("labels",)
    default_metric: ClassVar[str]
    default_max_length: ClassVar[int] = 256
    prediction_fields: ClassVar[
        tuple[str, ...]
    ] = ()  # the keys of what ``decode_predictions`` gives
    # Settings of ``data`` that answers depend on: a merged folder keeps them.
    prediction_settings: ClassVar[tuple[str, ...]] = ()
    # Whether a feature is always the same input; masked words, drawn anew each time, are not.
    has_fixed_inputs: ClassVar[bool] = True
    # Whether its head trains as a new module even where the checkpoint has it.
    trains_new_head: ClassVar[bool] = True
    reads_pairs: ClassVar[bool] = False  # whether its rows are always two texts
    needs_labels: ClassVar[bool] = True  # whether it learns from labels that the rows must have

    # The probability that decides (multi_label: from which a label is given, or one for each label;
    # classification of two: from which the second is given; question_answering: above which there
    # is no answer); None: the task does not decide by one.
    threshold: Threshold | None = None

    def __init__(self, config: DataConfig, labels: Sequence[str] | None) -> None:
        self.config, self.class_names = config, list(labels) if labels is not None else None
        known_metrics = (*self.selection_metrics, *self.registered_metrics())
        if config.metric is not None and config.metric not in known_metrics:
            closest = closest_name(config.metric, known_metrics)
            class_count = f" of {len(self.class_names)} classes" if self.class_names else ""
            raise UsageError(
                f"{self.name}{class_count} has no metric {config.metric!r}",
                where="data.metric",
                hint=f"{f'did you mean {closest!r}? ' if closest else ''}It has"
                f" {', '.join(known_metrics)}",
            )

    @classmethod
    @abstractmethod
    def matches_config(cls, model_config: Mapping[str, Any]) -> bool:
        """Whether a transformers config (as in ``config.json``) describes this task's head."""

    @classmethod
    def class_names_from_config(cls, model_config: Mapping[str, Any]) -> list[str] | None:
        """The class names that such a config lists; None where the task has no classes."""
        return None

    @property
    @abstractmethod
    def metric_names(self) -> tuple[str, ...]:
        """The keys of ``compute_metrics``; some depend on the classes.

        ``group/metric`` is that of a part of the whole, which has a table of its own.
        """

    @property
    def selection_metrics(self) -> tuple[str, ...]:
        """Those of them that can choose a checkpoint."""
        return self.metric_names

    @property
    def metric_note(self) -> str:
        """What the names of the metrics do not say; empty where they say all."""
        return ""

    @property
    def metric(self) -> str:
        """The metric that chooses the best checkpoint."""
        return self.config.metric or self.default_metric

    def is_better(self, new: float, old: float | None) -> bool:
        """Whether ``new`` beats ``old`` (None: nothing yet; NaN never wins)."""
        if math.isnan(new):
            return False
        if old is None:
            return True
        return new < old if self.metric in LOWER_IS_BETTER else new > old

    @property
    def aligns_base_head(self) -> bool:
        """Whether a head that the checkpoint already has is matched with the task's classes.

        A task without classes may keep such a head if its output is a number.
        """
        return self.class_names is not None

    @abstractmethod
    def head_config(self) -> dict[str, Any]:
        """What the transformers config needs: num_labels, id2label, label2id, problem_type."""

    def set_threshold(self, threshold: Threshold) -> None:
        """Give answers by ``threshold`` from now on. UsageError if the task decides by none."""
        if self.threshold is None:
            raise UsageError(
                f"{self.name} decides by no threshold", where="threshold", hint="Leave it out"
            )
        self.threshold = threshold

    def find_problems(self, loss: LossConfig, tune_threshold: bool) -> Iterator[Problem]:
        """What of these settings of a run does not fit its classes, once they are known."""
        yield from ()

    def configure_loss(self, settings: LossConfig, features: FeatureTable) -> None:
        """Let ``loss`` be as ``settings`` ask, by the ``features`` of the training rows.

        Evaluation keeps the plain loss. The configuration's rules say which tasks can.
        """

    def best_temperature(self, logits: np.ndarray, features: FeatureTable) -> float | None:
        """What to divide ``logits`` by for the least loss; None where nothing is the least."""
        raise self._unsupported_error("temperature", "calibrate")

    def calibration_error(self, logits: np.ndarray, features: FeatureTable) -> float:
        """How far the probabilities are from how often they are right, in [0, 1]."""
        raise self._unsupported_error("temperature", "calibrate")

    def best_threshold(self, logits: np.ndarray, features: FeatureTable) -> tuple[Threshold, str]:
        """The threshold that suits ``features`` best, and the metric that it is the best of."""
        raise self._unsupported_error("threshold", "tune_threshold")

    def _unsupported_error(self, feature: str, setting: str) -> UsageError:
        return UsageError(f"{self.name} has no {feature}", where=setting, hint="Leave it out")

    def init_head(self, head: Mapping[str, Tensor], features: FeatureTable) -> None:
        """Give the fresh ``head`` (parameters by name) a better start than chance, in place.

        Called once, before the first step of a run, with the features of its training rows.
        """

    @abstractmethod
    def make_encoder(self, tokenizer: PreTrainedTokenizerBase, max_length: int) -> EncodeFunction:
        """The function that ``data.features.featurize`` maps over chunks of rows."""

    def cache_key(self) -> list[Any]:
        """What the features depend on beside rows, tokenizer and max_length (JSON values)."""
        package = TASKS.package(self.name) if self.name in TASKS else None
        return [self.name, self.class_names, *([str(package)] if package is not None else [])]

    def no_feature_error(self, max_length: int) -> RowError:
        """What is wrong with a row that gives no feature."""
        return RowError("no feature", f"it gives nothing to read within {max_length} tokens")

    def train_transform(self, batch: Batch, seed: BatchSeed) -> Batch:
        """The batch as it runs, where chance has a part in it (hidden tokens, say).

        A function of the batch and ``seed`` alone, so that a run that goes on, or that several
        processes share, sees the same.
        """
        return batch

    @abstractmethod
    def count_loss_terms(self, batch: Batch) -> int:
        """Number of loss terms in the batch; the step's loss is Σ loss / Σ terms of its window."""

    @abstractmethod
    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Sum (not mean) of the loss terms of the batch, fp32 (fp64 for fp64 logits)."""

    def reduce_outputs(self, logits: Tensor, batch: Batch) -> Tensor:
        """What ``compute_metrics`` needs of a batch's logits: all of them, unless there are too
        many.
        """
        return logits

    def predict_transform(self, batch: Batch) -> Batch:
        """The batch as it runs to answer rows: all of its tokens count, unless this says less."""
        return batch

    def count_distillation_terms(self, batch: Batch) -> int:
        """Terms of ``distillation_loss``: all sequences, or the chosen tokens; labels are not
        needed.
        """
        mask = self.distillation_mask(batch)
        return len(batch) if mask is None else int(mask.sum())

    def distillation_loss(
        self, logits: Tensor, teacher: Tensor, batch: Batch, temperature: float
    ) -> Tensor:
        """Sum over the terms of a teacher's logits against the student's, fp32 (fp64 for fp64).

        Both are given as ``loss`` is given them. Unless a task says otherwise its classes exclude
        each other: Σ T² · KL(teacher ‖ student).
        """
        return categorical_kl_loss(logits, teacher, temperature, self.distillation_mask(batch))

    def distillation_mask(self, batch: Batch) -> Tensor | None:
        """Which tokens, bool [N], learn from a teacher; None at sequence level: every sequence.

        Unless a token-level task says otherwise, those whose class in ``labels`` is not −100.
        """
        if self.level == "sequence":
            return None
        has_label = batch.labels["labels"] != -100
        no_tokens = torch.zeros(batch.input_ids.shape[0], dtype=torch.bool, device=batch.device)
        return no_tokens.index_copy(0, batch.labelled_indices("token"), has_label)

    @property
    def can_distill_unlabelled(self) -> bool:
        """Whether ``distillation_loss`` has terms where a sequence has no labels."""
        return self.level == "sequence"

    def prediction_agreement(
        self, logits_a: np.ndarray, logits_b: np.ndarray, features: FeatureTable
    ) -> float:
        """Share of ``features`` to which two models' logits give the same answer."""
        return float((logits_a.argmax(-1) == logits_b.argmax(-1)).mean())

    @abstractmethod
    def compute_metrics(self, logits: np.ndarray, features: FeatureTable) -> dict[str, float]:
        """All metrics over the whole set; ``logits`` [rows, C] in the order of ``features``.

        Token-level logits are [tokens, C], the features' tokens end to end. Where a task makes
        ``reduce_outputs`` of its logits, it is given those.
        """

    def registered_metrics(self) -> tuple[str, ...]:
        """Names of the metrics that other packages register for this task."""
        return tuple(
            name
            for name, description in METRICS.specs().items()
            if description.compute is not None and self.name in description.tasks
        )

    def compute_all_metrics(self, logits: np.ndarray, features: FeatureTable) -> dict[str, float]:
        """``compute_metrics``, and the registered ones: NaN where all of the task's own are."""
        values = self.compute_metrics(logits, features)
        defined = not all(math.isnan(value) for value in values.values())
        for name in self.registered_metrics():
            compute = METRICS.implementation(name, "compute")
            values[name] = float(compute(self, logits, features)) if defined else math.nan
        return values

    def per_row_statistics(
        self, logits: np.ndarray, features: FeatureTable
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """What each row adds to the metrics: the rows [R], ascending, and terms, fp64 [R, K].

        From what ``compute_metrics`` is given. None where a task does not tell it, or nothing is
        finite.
        """
        return None

    def metrics_from_statistics(
        self, statistics: np.ndarray, weights: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Metrics [B] over rows with ``statistics`` [R, K], row r taken ``weights`` [B, R] times.

        With weights of 1 they are those of ``compute_metrics``. What is no function of such terms
        (the best threshold, say) is left out.
        """
        return {}

    @abstractmethod
    def decode_predictions(
        self, logits: np.ndarray, features: FeatureTable
    ) -> Iterator[dict[str, Any]]:
        """One JSON-ready answer a row (the Contract's keys), in the order of ``features.rows``.

        ``logits`` in fp32, in the order of ``compute_metrics``; rows that gave no feature are left
        out.
        """

    def report_items(self, logits: np.ndarray, features: FeatureTable) -> Iterator[ReportItem]:
        """What the report shows of the answers to labelled rows; given what ``compute_metrics`` is
        given.

        Pictures and tables in the order in which they are to be looked at.
        """
        return iter(())


def build_task(config: DataConfig, labels: Sequence[str] | None) -> BaseTask:
    """The task over ``labels``, the class names in order (None: a task without classes).

    Raises UsageError for an unknown task, or a metric that the task does not compute.
    """
    return _task_class(config.task)(config, labels)


def detect_task(
    model_config: Mapping[str, Any], recorded: str | None = None
) -> tuple[str, list[str] | None]:
    """Name and class names of the task whose head a folder's ``config.json`` describes.

    ``recorded``: the task that the folder itself names.

    Raises UsageError where the head is none that bertft knows, or there is none.
    """
    if recorded is not None:
        return recorded, _task_class(recorded).class_names_from_config(model_config)
    for name in sorted(TASKS.names(), key=lambda name: TASKS.package(name) is not None):
        task = _task_class(name)
        if task.matches_config(model_config):
            return name, task.class_names_from_config(model_config)
    raise UsageError(
        f"{', '.join(model_config.get('architectures') or ['the model'])} has no head of a task",
        where="config.json",
        hint=f"bertft knows {', '.join(TASKS.names())}; train a head first",
    )


def _task_class(name: str) -> type[BaseTask]:
    cls: type[BaseTask] = TASKS.implementation(name, "task_class")
    return cls


def build_features(
    rows: Mapping[str, Rows],
    task: BaseTask,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    cache: Path | None,
    on_bad_row: str = "error",
    max_skipped: float | None = None,
) -> dict[str, FeatureTable]:
    """Split name → table, of the splits that have rows with what the task needs of them.

    Rows that give no feature are bad rows, found here because it takes a tokenizer: DataError
    names them, or they are left out and counted with the others of their ``Rows``; with
    ``max_skipped`` DataError where those together are a larger share.
    """
    encode = task.make_encoder(tokenizer, max_length)
    key = feature_key_parts(task, tokenizer, max_length)
    fault, tables = task.no_feature_error(max_length), {}
    for name, rows_of_split in rows.items():
        if (rows_of_split.has_labels or not task.needs_labels) and len(rows_of_split):
            tables[name] = featurize(rows_of_split, encode, key, cache, hint=fault.detail)
            _handle_rows_without_features(tables[name], fault, on_bad_row, max_skipped)
    return tables


def build_unlabelled_features(
    rows: Rows,
    task: BaseTask,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    cache: Path | None,
    on_bad_row: str = "error",
    max_skipped: float | None = None,
) -> FeatureTable:
    """The table of rows without labels; bad rows as in ``build_features``."""
    fault = task.no_feature_error(max_length)
    encode, key = (
        task.make_encoder(tokenizer, max_length),
        feature_key_parts(task, tokenizer, max_length),
    )
    table = featurize(rows, encode, key, cache, hint=fault.detail)
    _handle_rows_without_features(table, fault, on_bad_row, max_skipped)
    return table


def feature_key_parts(
    task: BaseTask, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> list[Any]:
    """What features depend on beside their rows."""
    return [task.cache_key(), max_length, tokenizer_hash(tokenizer)]


def _handle_rows_without_features(
    table: FeatureTable, fault: RowError, policy: str, max_skipped: float | None
) -> None:
    rows = table.rows
    has_feature = table.rows_with_features()
    if has_feature.all():
        return
    bad = BadRows(rows.source, rows.unit, keep_all=rows.all_errors is not None)
    bad.read = len(rows)
    for line in rows.arrow_column("line").filter(pa.array(~has_feature)).to_pylist():
        bad.add(line, fault)
    raise_or_skip([bad], policy)
    if rows.all_errors is not None and bad.all_errors is not None:
        rows.all_errors.extend(bad.all_errors)
    skipped_before = rows.skipped.total()
    rows.skipped.update(bad.counts)
    if max_skipped is None:
        return
    # Of rows drawn from many, those without a feature stand for as large a share of all.
    share = len(bad) / len(rows)
    bad.counts, bad.first = rows.skipped, [*rows.first_errors, *bad.first]
    check_skipped_share(
        bad, skipped_before + share * (rows.read - skipped_before), rows.read, max_skipped
    )
