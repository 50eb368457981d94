"""Write what a run added to its base as an adapter in peft's format (see ``assembly.adapter``)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from bertft.config.task_facts import join_words
from bertft.errors import UsageError
from bertft.methods.peft_format import PREFIX
from bertft.models.linear_layers import plain_path
from bertft.models.loading import head_parameters
from bertft.pipeline.adapter_folder import BERTFT_FILE, CONFIG_FILE, PEFT_TASK_TYPES, WEIGHTS_FILE
from bertft.pipeline.loaded_model import LoadedModel
from bertft.pipeline.model import TaskModel
from bertft.runs.tensor_files import write_tensors
from bertft.utils.atomic_io import atomic_write_json

__all__ = ["write_peft_adapter"]


def write_peft_adapter(folder: Path, loaded: LoadedModel) -> dict[str, Tensor]:
    """Write the three files; the tensors. UsageError for a method that peft's format cannot hold.

    A temperature must be folded before.
    """
    task_model = loaded.task_model
    for part in task_model.components:
        if not part.foldable:
            raise UsageError(
                f"the run has a {part.name} beside, which an adapter in peft's format cannot hold",
                where="run",
                hint="bertft merge prefix=beside keeps both",
            )
        if part.trains_base:
            raise UsageError(
                f"the run trained weights of the base itself ({part.name})",
                where="run",
                hint="bertft merge writes the whole model",
            )
    model = task_model.model
    settings, tensors = _adapter_contents(task_model)
    trained_parameters = {
        plain_path(name): each
        for name, each in model.named_parameters()
        if each.requires_grad and ".adapter." not in name
    }
    tensors |= {
        f"{PREFIX}{name}": each.detach().float().cpu() for name, each in trained_parameters.items()
    }
    source = task_model.source
    atomic_write_json(
        folder / CONFIG_FILE,
        {
            # From wherever the adapter is loaded: a relative path would be taken for a Hub id.
            "base_model_name_or_path": source.load
            if source.kind == "hub"
            else os.path.abspath(source.load),
            "revision": source.revision if source.kind == "hub" else None,
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
        "answering": loaded.answer_settings,
        "prefix": None,
    }
    if loaded.threshold is not None:
        info["threshold"] = loaded.threshold
    atomic_write_json(folder / BERTFT_FILE, info)
    return tensors


def _adapter_contents(task_model: TaskModel) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What the run's methods add, in peft's format. UsageError where that cannot hold it all."""
    adapter_components = [each for each in task_model.components if each.adapts_layers]
    if not adapter_components:
        raise UsageError(
            "the run has no adapter: it trained the task head alone",
            where="run",
            hint="bertft merge writes the model itself",
        )
    adapters = {part.name: part.peft_adapter(task_model.model) for part in adapter_components}
    for name, adapter in adapters.items():
        if adapter is None:
            raise UsageError(
                f"peft's format does not support {name}",
                where="run",
                hint="bertft merge writes the whole model",
            )
    if len(adapters) > 1:
        raise UsageError(
            "peft's format holds one kind of adapter, and the run has"
            f" {join_words(list(adapters))}",
            where="run",
            hint="bertft merge writes the whole model",
        )
    (only,) = adapters.values()
    assert only is not None
    return only


def _modules_to_save(new: Mapping[str, Any], head: Mapping[str, Any]) -> list[str]:
    """What peft shall save whole: children of the model for the head, else the modules alone."""
    return sorted({name.split(".")[0] if name in head else name.rpartition(".")[0] for name in new})
