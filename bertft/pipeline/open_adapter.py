"""Load an adapter in peft's format, from peft or from ``bertft export``, with its base."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bertft.config.data import DataConfig
from bertft.config.registry import METHODS, readers_by_peft_type
from bertft.errors import DataError
from bertft.methods.component import MethodComponent
from bertft.methods.peft_format import model_name
from bertft.models.dropout import replace_dropout
from bertft.models.loading import load_config, load_model
from bertft.models.precision import Precision, choose_precision, resolve_device
from bertft.models.runner import EncoderRunner
from bertft.pipeline.adapter_folder import AdapterFolder
from bertft.pipeline.batch_invariance import check_batch_invariance
from bertft.pipeline.head_settings import HeadSettings
from bertft.pipeline.loaded_model import LoadedModel, make_loaded_model
from bertft.pipeline.model_info import INFO_FILE
from bertft.pipeline.task_model import TaskModel
from bertft.tasks.task import BaseTask, build_task
from bertft.utils.messages import add_location

__all__ = ["open_adapter"]


def open_adapter(
    folder: Path,
    precision: str,
    device: str,
    data: DataConfig | None,
    head_settings: HeadSettings,
    base: str | None = None,
    trust_remote_code: bool = False,
) -> LoadedModel:
    """Load an adapter in peft's format; infer what it does not record from its head.

    ``base`` replaces the recorded base; ``open_model`` describes the other arguments.
    """
    adapter = AdapterFolder(folder, base, trust_remote_code)
    tokenizer, info = adapter.tokenizer(), adapter.info
    name, labels = adapter.task_and_labels(tokenizer, head_settings)
    if data is None:
        data = replace(DataConfig(name=folder.name, task=name), **info.prediction_settings)
    task = build_task(data, labels)
    with add_location(folder / INFO_FILE):
        task.set_conformal(info.conformal)
    task_model = _build_adapter_model(
        adapter, task, tokenizer, choose_precision(precision, resolve_device(device), "precision")
    )
    return make_loaded_model(
        folder, task_model, data, labels, info.max_length, info.threshold, folder / INFO_FILE
    )


def _build_adapter_model(
    adapter: AdapterFolder, task: BaseTask, tokenizer: Any, precision: Precision
) -> TaskModel:
    """Load the base, attach the adapter, and move both to the device in evaluation mode."""
    with adapter.adapter_errors():
        config, _ = load_config(adapter.model_settings, tokenizer, task.head_config())
        loaded = load_model(
            adapter.model_settings, config, adapter.source, task.auto_class, fresh_head=False
        )
    model: Any = loaded.model
    check_batch_invariance(model, tokenizer, task.level, task.reads_pairs)
    replace_dropout(model)
    peft_type = str(adapter.settings.get("peft_type"))
    method, implementation = readers_by_peft_type()[peft_type]
    with adapter.adapter_errors():
        from_peft = METHODS.load(method, implementation)
        component: MethodComponent = from_peft(adapter.settings, adapter.tensors)
        component.attach(model)
        _copy_saved_modules(model, adapter.tensors)
    missing = sorted(set(loaded.new_parameters) - set(adapter.saved_shapes()))
    if missing:
        raise DataError(
            f"neither the adapter nor its base has weights for {', '.join(missing[:3])}:"
            " predictions would be random",
            where=str(adapter.folder),
            hint="Save the adapter again, with the head in modules_to_save",
        )
    # The updates and a new head stay in fp32, as in training.
    model.requires_grad_(False)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in loaded.new_parameters or ".adapter." in f".{name}")
    precision.place_model(model, False)
    model.requires_grad_(False).eval()
    runner = EncoderRunner(model, task.level)
    return TaskModel(task, tokenizer, model, [component], runner, precision, adapter.source)


def _copy_saved_modules(model: Any, tensors: Mapping[str, Tensor]) -> None:
    """Copy tensors that replace a whole parameter, such as those of the head, into the model."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in tensors.items():
            path = model_name(name)
            if path is not None and path in parameters and parameters[path].shape == tensor.shape:
                parameters[path].copy_(tensor)
