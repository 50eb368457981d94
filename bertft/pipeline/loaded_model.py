"""A model that was opened from a folder, and what each way of opening it checks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bertft.config.command_configs import TrainConfig
from bertft.config.data import DataConfig
from bertft.data.labels import are_placeholder_names
from bertft.errors import DataError, UsageError
from bertft.models.check_weights import first_non_finite
from bertft.pipeline.adapter_folder import is_adapter_folder
from bertft.pipeline.calibration import parse_threshold
from bertft.pipeline.checkpoint import CheckpointInfo
from bertft.pipeline.task_model import TaskModel
from bertft.runs.run_folder import RunFolder
from bertft.tasks.shared.encoding import resolve_max_length
from bertft.tasks.task import BaseTask, Threshold

__all__ = ["LoadedModel", "first_non_finite_parameter", "make_loaded_model"]


@dataclass
class LoadedModel:
    """``data`` says how rows were read (of a plain folder: the defaults of files).

    ``run``, ``config`` and ``checkpoint`` are None for a folder that is no run; ``folder`` is that
    folder, or the run's. ``calibration``: what was fitted to the checkpoint of a run, as its
    metrics.json has it. ``threshold``: the one that was tuned, which decides.
    """

    task_model: TaskModel
    data: DataConfig
    info: CheckpointInfo
    folder: Path
    run: RunFolder | None = None
    config: TrainConfig | None = None
    checkpoint: Path | None = None
    calibration: dict[str, Any] | None = None
    threshold: Threshold | None = None

    @property
    def is_adapter(self) -> bool:
        """Whether it is an adapter's folder, with the base beside it."""
        return self.run is None and is_adapter_folder(self.folder)

    @property
    def unnamed_tags(self) -> str:
        """What to say of a head for tags that the folder does not name; empty where it does."""
        if self.task_model.task.level != "token" or not are_placeholder_names(
            self.info.labels or []
        ):
            return ""
        return (
            f"{self.folder} calls the tags of its head LABEL_0, LABEL_1, ...: nothing says which of"
            " them is outside of entities"
        )

    @property
    def answer_settings(self) -> dict[str, Any]:
        """The settings of ``data`` that the answers depend on."""
        return {name: getattr(self.data, name) for name in self.task_model.task.prediction_settings}


def make_loaded_model(
    folder: Path,
    task_model: TaskModel,
    data: DataConfig,
    labels: list[str] | None,
    max_length: int | None,
    threshold: tuple[Any, Path],
) -> LoadedModel:
    """What was opened from a folder that is no run, once its weights are known to be finite.

    ``max_length`` and ``threshold`` are what the folder tells, the latter with the file that does.
    """
    name = first_non_finite_parameter(task_model.model)
    if name is not None:
        raise DataError(f"{name} is not finite", where=str(folder))
    task_model.model.eval()
    longest = task_model.max_input_length
    if data.max_length is None and max_length is not None and max_length > longest:
        raise DataError(
            f"max_length is {max_length:,}, and the model takes {longest:,} tokens",
            where=str(folder / "bertft.json"),
            hint="Was it edited?",
        )
    resolved_max_length = resolve_max_length(
        data.max_length or max_length, longest, task_model.task.default_max_length
    )
    info = CheckpointInfo(task_model.task.name, labels, resolved_max_length, 0)
    return LoadedModel(
        task_model, data, info, folder, threshold=_apply_threshold(task_model.task, *threshold)
    )


def _apply_threshold(task: BaseTask, value: Any, file: Path) -> Threshold | None:
    """Let ``task`` decide by the threshold that ``file`` tells, if it tells one."""
    threshold = parse_threshold(value, str(file))
    if threshold is not None:
        try:
            task.set_threshold(threshold)
        except UsageError as error:
            raise UsageError(error.what, where=str(file), hint=error.hint) from error
    return threshold


def first_non_finite_parameter(model: torch.nn.Module) -> str | None:
    """The name of a weight with NaN or infinity, with which every answer would be NaN."""
    return first_non_finite(dict(model.named_parameters()))
