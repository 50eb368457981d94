"""A merged or plain transformers folder as a model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from bertft.assembly.adapted import TaskModel, build_task_model
from bertft.assembly.head_settings import HeadSettings
from bertft.assembly.merged_folder import THRESHOLD_KEY, load_prefix_weights, read_merged_info
from bertft.assembly.saved import LoadedModel, make_loaded_model
from bertft.config.data import DataConfig
from bertft.config.model import ModelConfig
from bertft.config.registry import TASKS
from bertft.errors import DataError, UsageError
from bertft.models.folder import check_model_folder
from bertft.models.load import load_tokenizer
from bertft.models.precision import choose_precision, resolve_device
from bertft.models.source import ModelSource
from bertft.models.stated import check_config_values
from bertft.runs.json_file import read_json_object
from bertft.tasks import build_task as build_task
from bertft.tasks import detect_task
from bertft.tasks.shared.classes import class_names_in_config

__all__ = ["open_folder"]


def open_folder(
    folder: Path,
    precision: str,
    device: str,
    data: DataConfig | None,
    head_settings: HeadSettings,
    trust_remote_code: bool = False,
) -> LoadedModel:
    """A merged or plain transformers folder; a prefix that a merge put beside is attached."""
    if any(folder.glob("*.onnx")) and not any(folder.glob("*.safetensors")):
        raise UsageError(
            "holds an ONNX graph and no weights that bertft runs", where=str(folder),
            hint="onnxruntime runs it: its README.md has the lines",
        )  # fmt: skip
    check_model_folder(folder)
    config = read_json_object(folder / "config.json")
    check_config_values(config, str(folder / "config.json"))
    info = read_merged_info(folder)
    with _of_file(folder / "config.json"):
        outputs = len(class_names_in_config(config))
        config["problem_type"] = head_settings.problem_type(config.get("problem_type"), outputs)
        name, stored_labels = detect_task(config, _external_task(info.task, folder))
    head_settings.check_task(name)
    labels = head_settings.class_names(stored_labels)
    if data is None:
        data = replace(DataConfig(name=folder.name, task=name), **info.answer_settings)
    settings = ModelConfig(name=folder.name, path=str(folder), trust_remote_code=trust_remote_code)
    tokenizer = load_tokenizer(settings)
    task = build_task(data, labels)
    source = ModelSource(folder.name, "folder", str(folder.resolve()))
    task_model = build_task_model(
        source, settings, info.method, task, tokenizer,
        choose_precision(precision, resolve_device(device), "precision"),
    )  # fmt: skip
    _check_head(folder, task_model)
    if info.prefix is not None:
        load_prefix_weights(folder, task_model.model)
    threshold = (_rename_thresholds(config.get(THRESHOLD_KEY), stored_labels, labels), folder / "config.json")
    return make_loaded_model(folder, task_model, data, labels, info.max_length, threshold)


@contextlib.contextmanager
def _of_file(file: Path) -> Iterator[None]:
    """Errors about ``config.json`` with the path of the file."""
    try:
        yield
    except UsageError as error:
        if error.where != file.name:
            raise
        raise UsageError(error.what, where=str(file), hint=error.hint) from error


def _external_task(task: str | None, folder: Path) -> str | None:
    """``task`` where another package registers it: bertft's own are recognised by their heads."""
    if task is None:
        return None
    if task not in TASKS:
        TASKS.raise_missing(task, "task", str(folder / "bertft.json"))
    return task if TASKS.package(task) is not None else None


def _rename_thresholds(threshold: Any, stored_labels: list[str] | None, names: list[str] | None) -> Any:
    """A threshold for each label under the ``names`` that the user gave to the ``stored_labels`` ones."""
    if not isinstance(threshold, dict) or stored_labels is None or names is None:
        return threshold
    renamed = dict(zip(stored_labels, names, strict=True))
    return {renamed.get(label, label): each for label, each in threshold.items()}


def _check_head(folder: Path, task_model: TaskModel) -> None:
    """DataError where weights of the head were drawn anew in loading, or left out."""
    missing, surplus = sorted(task_model.randomly_initialized), sorted(task_model.left_out)
    if surplus and task_model.task.needs_labels:  # BERT's head of pretraining has a second part
        raise DataError(
            f"the head has no place for the weights {', '.join(surplus[:3])}: it was trained as"
            " another class of model", where=str(folder),
            hint="Such a head is not supported: its answers would be others",
        )  # fmt: skip
    if missing:
        raise DataError(
            f"there are no weights for {', '.join(missing[:3])}, or they have another shape",
            where=str(folder), hint="The folder is not whole, or its head was never trained",
        )  # fmt: skip
