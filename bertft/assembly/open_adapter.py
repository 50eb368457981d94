"""An adapter in peft's format as a model: its base with what the adapter adds to its layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bertft.assembly.adapted import Adapted
from bertft.assembly.adapter import OWN, AdapterFolder
from bertft.assembly.head_settings import HeadSettings
from bertft.assembly.independence import check_independence
from bertft.assembly.saved import Saved, of_folder
from bertft.config.data import DataConfig
from bertft.config.registry import METHODS, peft_types
from bertft.errors import DataError
from bertft.methods.part import Part
from bertft.methods.peft_format import own_name
from bertft.models.dropout import take_over
from bertft.models.load import load_config, load_model
from bertft.models.precision import Precision, choose, resolve_device
from bertft.models.runner import EncoderRunner
from bertft.tasks import build as build_task
from bertft.tasks.task import BaseTask

__all__ = ["open_adapter"]


def open_adapter(
    folder: Path,
    precision: str,
    device: str,
    data: DataConfig | None,
    said: HeadSettings,
    base: str | None = None,
    trust: bool = False,
) -> Saved:
    """An adapter in peft's format; what a foreign one does not tell is read off its head."""
    found = AdapterFolder(folder, base, trust)
    tokenizer, facts = found.tokenizer(), found.facts
    name, labels = found.task(tokenizer, said)
    if data is None:
        data = replace(DataConfig(name=folder.name, task=name), **facts.get("answering", {}))
    task = build_task(data, labels)
    adapted = _assembled(
        found, task, tokenizer, choose(precision, resolve_device(device), "precision")
    )
    threshold = (facts.get("threshold"), folder / OWN)
    return of_folder(folder, adapted, data, labels, facts.get("max_length"), threshold)


def _assembled(
    found: AdapterFolder, task: BaseTask, tokenizer: Any, precision: Precision
) -> Adapted:
    """The base with the adapter beside its layers, placed, in evaluation mode."""
    with found.told():
        config, _ = load_config(found.model_settings, tokenizer, task.model_settings())
        loaded = load_model(
            found.model_settings, config, found.source, task.auto_class, fresh_head=False
        )
    model: Any = loaded.model
    check_independence(model, tokenizer, task.level, task.reads_pairs)
    take_over(model)
    kind = str(found.settings.get("peft_type"))
    owner, target = peft_types()[kind]
    with found.told():
        part: Part = METHODS.load(owner, target)(found.settings, found.tensors)
        part.attach(model)
        _copy_saved_modules(model, found.tensors)
    lacking = sorted(set(loaded.new) - set(found.shapes()))
    if lacking:
        raise DataError(
            f"neither the adapter nor its base has weights for {', '.join(lacking[:3])}: it"
            " would answer at random", where=str(found.folder),
            hint="Save it with modules_to_save naming the head",
        )  # fmt: skip
    # The updates and a new head keep their fp32, as they do while a run trains.
    model.requires_grad_(False)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in loaded.new or ".adapter." in f".{name}")
    precision.prepare(model, False)
    model.requires_grad_(False).eval()
    runner = EncoderRunner(model, task.level)
    return Adapted(task, tokenizer, model, [part], runner, precision, found.source)


def _copy_saved_modules(model: Any, tensors: Mapping[str, Tensor]) -> None:
    """What was saved whole, such as the head, goes into the parameter of its name."""
    own = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in tensors.items():
            path = own_name(name)
            if path is not None and path in own and own[path].shape == tensor.shape:
                own[path].copy_(tensor)
