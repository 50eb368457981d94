"""A model loaded from a folder, and the checks that all formats share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bertft.config.command_configs import TrainConfig
from bertft.config.data import DataConfig
from bertft.data.cache import cache_folder
from bertft.data.features import FeatureTable
from bertft.data.labels import are_placeholder_names
from bertft.data.rows import Rows
from bertft.errors import DataError, UsageError
from bertft.models.check_weights import first_non_finite
from bertft.pipeline.adapter_folder import is_adapter_folder
from bertft.pipeline.checkpoint import CheckpointInfo
from bertft.pipeline.conformal import observed_sets
from bertft.pipeline.model_info import INFO_FILE
from bertft.pipeline.onnx_folder import is_onnx_folder
from bertft.pipeline.task_model import TaskModel
from bertft.runs.metrics_json import Calibration
from bertft.runs.run_folder import RunFolder
from bertft.tasks.feature_tables import build_features
from bertft.tasks.shared.encoding import resolve_max_length
from bertft.tasks.task import Threshold
from bertft.training.evaluate import evaluate

__all__ = ["LoadedModel", "first_non_finite_parameter", "make_loaded_model"]

_MAX_LABELS = 12  # in a description


@dataclass
class LoadedModel:
    """A model that is ready to evaluate, with the settings that its predictions depend on.

    Attributes:
        data: how rows are read; the defaults of files if the folder does not record it.
        folder: the run folder, or the folder of the model.
        run, config, checkpoint: None if the folder is not a run.
        calibration: the entry of metrics.json; None if the run was not calibrated.
        threshold: the tuned decision threshold; None: the default of the task.
    """

    task_model: TaskModel
    data: DataConfig
    info: CheckpointInfo
    folder: Path
    run: RunFolder | None = None
    config: TrainConfig | None = None
    checkpoint: Path | None = None
    calibration: Calibration | None = None
    threshold: Threshold | None = None

    @property
    def is_adapter(self) -> bool:
        """Whether the model was loaded from an adapter folder."""
        return self.run is None and is_adapter_folder(self.folder)

    def describe(self) -> dict[str, str | list[str]]:
        """The kind of the folder, task, labels, base and precision, for people.

        There are no labels for a task without classes, and no base for a folder that contains the
        whole model.
        """
        facts: dict[str, str | list[str]] = {"kind": self._kind(), "task": self.info.task}
        if self.info.labels is not None:
            facts["labels"] = _first_labels(self.info.labels)
        if self.run is not None or self.is_adapter:
            facts["base"] = self.task_model.source.name
        precision = self.task_model.precision
        return facts | {"precision": precision.name, "device": str(precision.device)}

    def _kind(self) -> str:
        if self.run is not None:
            return "run"
        if self.is_adapter:
            return "adapter"
        if is_onnx_folder(self.folder):
            return "ONNX graph"
        return "merged model" if (self.folder / INFO_FILE).is_file() else "transformers model"

    @property
    def unnamed_tags_message(self) -> str:
        """A message if the head predicts tags that the folder does not name; otherwise empty."""
        if self.task_model.task.level != "token" or not are_placeholder_names(
            self.info.labels or []
        ):
            return ""
        return (
            f"{self.folder} does not name the tags of its head (LABEL_0, LABEL_1, ...): it is"
            " unknown which of them is outside of entities"
        )

    def build_features(self, split: str, rows: Rows) -> FeatureTable:
        """The features of labelled ``rows``, from the cache if they are in it.

        ``split``: the name of the rows in messages. Raises DataError for a row without
        features, or too many skipped rows, as ``data.on_bad_row`` demands.
        """
        tables = build_features(
            {split: rows},
            self.task_model.task,
            self.task_model.tokenizer,
            self.info.max_length,
            cache_folder(self.data.cache),
            self.data.on_bad_row,
            self.data.max_skipped,
        )
        return tables[split]

    def evaluate(
        self, table: FeatureTable, on_outputs: Callable[[np.ndarray], object] | None = None
    ) -> dict[str, float]:
        """The metrics on the features ``table``; ``on_outputs`` is called once with all outputs.

        With prediction sets, also their coverage and size.
        """
        task_model = self.task_model
        kept: list[np.ndarray] = []
        metrics = evaluate(
            task_model.runner, task_model.task, table, task_model.precision, on_outputs=kept.append
        )
        if on_outputs is not None:
            on_outputs(kept[0])
        return metrics | observed_sets(task_model.task, kept[0], table)

    @property
    def prediction_settings(self) -> dict[str, Any]:
        """The settings of ``data`` that predictions depend on."""
        return {name: getattr(self.data, name) for name in self.task_model.task.prediction_settings}


def _first_labels(labels: list[str]) -> list[str]:
    """``labels``, or the first ones and the number of the others."""
    more = len(labels) - _MAX_LABELS
    return labels if more <= 0 else [*labels[:_MAX_LABELS], f"… {more:,} more"]


def make_loaded_model(
    folder: Path,
    task_model: TaskModel,
    data: DataConfig,
    labels: list[str] | None,
    max_length: int | None,
    threshold: Threshold | None,
    threshold_file: Path,
) -> LoadedModel:
    """Check a model from a folder that is not a run, and set its threshold.

    Args:
        max_length: as the folder records it; None if it does not.
        threshold: as ``threshold_file`` records it; None: the default of the task.

    Raises:
        DataError: a weight is not finite, or a recorded value is invalid.
    """
    name = first_non_finite_parameter(task_model.model)
    if name is not None:
        raise DataError(
            f"{name} is not finite: all predictions would be NaN",
            where=str(folder),
            hint="Restore the folder from a copy, or train again with a lower learning rate",
        )
    task_model.model.eval()
    longest = task_model.max_input_length
    if data.max_length is None and max_length is not None and max_length > longest:
        raise DataError(
            f"max_length is {max_length:,}, but the model supports at most {longest:,} tokens",
            where=str(folder / INFO_FILE),
            hint="Restore the file; it may have been edited",
        )
    resolved_max_length = resolve_max_length(
        data.max_length or max_length, longest, task_model.task.default_max_length
    )
    info = CheckpointInfo(task_model.task.name, labels, resolved_max_length, 0)
    if threshold is not None:
        try:
            task_model.task.set_threshold(threshold)
        except UsageError as error:
            raise UsageError(error.what, where=str(threshold_file), hint=error.hint) from error
    return LoadedModel(task_model, data, info, folder, threshold=threshold)


def first_non_finite_parameter(model: torch.nn.Module) -> str | None:
    """The name of a weight with NaN or infinity; with one, all predictions would be NaN."""
    return first_non_finite(dict(model.named_parameters()))
