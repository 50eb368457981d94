"""Exports the adapter of a run in peft's format; ``pipeline.adapter_folder`` reads it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from bertft.config.command_configs import ExportConfig
from bertft.config.task_facts import join_words
from bertft.errors import UsageError
from bertft.export.equivalence import EquivalenceCheck
from bertft.methods.peft_format import PREFIX
from bertft.models.linear_layers import plain_path
from bertft.models.loading import head_parameters
from bertft.pipeline.adapter_folder import CONFIG_FILE, PEFT_TASK_TYPES, WEIGHTS_FILE
from bertft.pipeline.loaded_model import LoadedModel
from bertft.pipeline.model_info import INFO_FILE
from bertft.pipeline.open_model import open_from_settings
from bertft.pipeline.task_model import TaskModel
from bertft.runs.tensor_files import write_tensors
from bertft.utils.atomic_io import atomic_write_json
from bertft.utils.terminal import print_warning

__all__ = ["export_peft_adapter", "write_peft_adapter"]

_MERGE_HINT = "Use bertft merge RUN <folder>, which writes the whole model"


def export_peft_adapter(config: ExportConfig, folder: Path, name: str) -> list[str]:
    """Write the adapter of a run into ``folder``, whose final name is ``name``.

    The adapter is loaded and compared with the run. Returns the messages for the user.

    Raises:
        MergeError: the adapter would give other predictions.
        UsageError: ``config.run`` is not a run, or peft's format does not support its method.
    """
    loaded = open_from_settings(config, "fp32", warn=print_warning)
    if loaded.run is None:
        raise UsageError(
            f"{config.run} is not a run",
            where="run",
            hint="Set run=<run folder>; format=onnx also supports other folders",
        )
    task_model = loaded.task_model
    check = EquivalenceCheck(loaded)
    task_model.fold_temperature()
    tensors = write_peft_adapter(folder, loaded)
    task_model.tokenizer.save_pretrained(folder)
    reloaded = check.reopen(folder, config)
    check_message = check.write_card(
        folder, name, reloaded, what="adapter", where=str(config.run), library="peft"
    )
    matrices = sum(tensor_name.endswith("lora_A.weight") for tensor_name in tensors)
    description = f"the updates of {matrices} matrices" if matrices else f"{len(tensors)} tensors"
    return [
        f"wrote {description} as a peft adapter into {config.out}",
        check_message,
        *check.precision_notes(config, config.out),
    ]


def write_peft_adapter(folder: Path, loaded: LoadedModel) -> dict[str, Tensor]:
    """Write adapter_config.json, adapter_model.safetensors and bertft.json into ``folder``.

    A temperature must be folded before. Returns the tensors. UsageError for a method that peft's
    format does not support.
    """
    task_model = loaded.task_model
    for component in task_model.components:
        if not component.foldable:
            raise UsageError(
                f"the run has a {component.name}, which bertft cannot write in peft's format",
                where="run",
                hint="Use bertft merge RUN <folder> prefix=separate, which writes the model and the"
                " prefix",
            )
        if component.trains_base:
            raise UsageError(
                f"the run trained weights of the base model ({component.name}), which peft's format"
                " does not support",
                where="run",
                hint=_MERGE_HINT,
            )
    model = task_model.model
    settings, tensors = _adapter_contents(task_model)
    trained_parameters = {
        plain_path(name): parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and ".adapter." not in name
    }
    tensors |= {
        f"{PREFIX}{name}": parameter.detach().float().cpu()
        for name, parameter in trained_parameters.items()
    }
    source = task_model.source
    atomic_write_json(
        folder / CONFIG_FILE,
        {
            # Absolute, because peft interprets a relative path as a Hub id.
            "base_model_name_or_path": source.hub_id or os.path.abspath(source.load),
            "revision": source.revision if source.hub_id is not None else None,
            "task_type": PEFT_TASK_TYPES.get(task_model.task.auto_class),
            "modules_to_save": _modules_to_save(trained_parameters, head_parameters(model)),
            **settings,
        },
    )
    write_tensors(folder / WEIGHTS_FILE, tensors)
    info: dict[str, Any] = {
        "task": task_model.task.name,
        "labels": loaded.info.labels,
        "max_length": loaded.info.max_length,
        "answering": loaded.prediction_settings,
        "prefix": None,
    }
    if loaded.threshold is not None:
        info["threshold"] = loaded.threshold
    if task_model.task.conformal is not None:
        info["conformal"] = asdict(task_model.task.conformal)
    atomic_write_json(folder / INFO_FILE, info)
    return tensors


def _adapter_contents(task_model: TaskModel) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Entries of adapter_config.json, and tensors. UsageError if peft does not support them."""
    components = [component for component in task_model.components if component.adapts_layers]
    if not components:
        raise UsageError(
            "the run has no adapter: it trained only the task head",
            where="run",
            hint=_MERGE_HINT,
        )
    adapters = {
        component.name: component.peft_adapter(task_model.model) for component in components
    }
    for name, adapter in adapters.items():
        if adapter is None:
            raise UsageError(
                f"peft's format does not support {name}",
                where="run",
                hint=_MERGE_HINT,
            )
    if len(adapters) > 1:
        raise UsageError(
            "peft's format supports one kind of adapter, and the run has"
            f" {join_words(list(adapters))}",
            where="run",
            hint=_MERGE_HINT,
        )
    (adapter,) = adapters.values()
    assert adapter is not None
    return adapter


def _modules_to_save(
    trained: Mapping[str, nn.Parameter], head: Mapping[str, nn.Parameter]
) -> list[str]:
    """Modules that peft saves completely: for the head, the model's children that contain it."""
    return sorted(
        {name.split(".")[0] if name in head else name.rpartition(".")[0] for name in trained}
    )
