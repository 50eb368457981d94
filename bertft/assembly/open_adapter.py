"""An adapter in peft's format as a model: its base with what the adapter adds to its layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bertft.assembly.adapted import TaskModel
from bertft.assembly.adapter import BERTFT_FILE, AdapterFolder
from bertft.assembly.head_settings import HeadSettings
from bertft.assembly.independence import check_batch_invariance
from bertft.assembly.saved import LoadedModel, make_loaded_model
from bertft.config.data import DataConfig
from bertft.config.registry import METHODS, readers_by_peft_type
from bertft.errors import DataError
from bertft.methods.part import MethodComponent
from bertft.methods.peft_format import own_name
from bertft.models.dropout import replace_dropout
from bertft.models.load import load_config, load_model
from bertft.models.precision import Precision, choose_precision, resolve_device
from bertft.models.runner import EncoderRunner
from bertft.tasks import build_task as build_task
from bertft.tasks.task import BaseTask

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
    """An adapter in peft's format; what a foreign one does not tell is read off its head."""
    adapter = AdapterFolder(folder, base, trust_remote_code)
    tokenizer, info = adapter.tokenizer(), adapter.info
    name, labels = adapter.task_and_labels(tokenizer, head_settings)
    if data is None:
        data = replace(DataConfig(name=folder.name, task=name), **info.get("answering", {}))
    task = build_task(data, labels)
    task_model = _build_adapter_model(
        adapter, task, tokenizer, choose_precision(precision, resolve_device(device), "precision")
    )
    threshold = (info.get("threshold"), folder / BERTFT_FILE)
    return make_loaded_model(folder, task_model, data, labels, info.get("max_length"), threshold)


def _build_adapter_model(
    adapter: AdapterFolder, task: BaseTask, tokenizer: Any, precision: Precision
) -> TaskModel:
    """The base with the adapter beside its layers, placed, in evaluation mode."""
    with adapter.adapter_errors():
        config, _ = load_config(adapter.model_settings, tokenizer, task.head_config())
        loaded = load_model(
            adapter.model_settings, config, adapter.source, task.auto_class, fresh_head=False
        )
    model: Any = loaded.model
    check_batch_invariance(model, tokenizer, task.level, task.reads_pairs)
    replace_dropout(model)
    peft_type = str(adapter.settings.get("peft_type"))
    owner, target = readers_by_peft_type()[peft_type]
    with adapter.adapter_errors():
        component: MethodComponent = METHODS.load(owner, target)(adapter.settings, adapter.tensors)
        component.attach(model)
        _copy_saved_modules(model, adapter.tensors)
    missing = sorted(set(loaded.new_parameters) - set(adapter.saved_shapes()))
    if missing:
        raise DataError(
            f"neither the adapter nor its base has weights for {', '.join(missing[:3])}: it"
            " would answer at random", where=str(adapter.folder),
            hint="Save it with modules_to_save naming the head",
        )  # fmt: skip
    # The updates and a new head keep their fp32, as they do while a run trains.
    model.requires_grad_(False)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in loaded.new_parameters or ".adapter." in f".{name}")
    precision.place_model(model, False)
    model.requires_grad_(False).eval()
    runner = EncoderRunner(model, task.level)
    return TaskModel(task, tokenizer, model, [component], runner, precision, adapter.source)


def _copy_saved_modules(model: Any, tensors: Mapping[str, Tensor]) -> None:
    """What was saved whole, such as the head, goes into the parameter of its name."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in tensors.items():
            path = own_name(name)
            if path is not None and path in parameters and parameters[path].shape == tensor.shape:
                parameters[path].copy_(tensor)
