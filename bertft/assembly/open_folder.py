"""A merged or plain transformers folder as a model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from bertft.assembly.adapted import Adapted, assemble
from bertft.assembly.head_settings import HeadSettings
from bertft.assembly.merged_folder import THRESHOLD, fill_prefix, read_beside
from bertft.assembly.saved import Saved, of_folder
from bertft.config.data import DataConfig
from bertft.config.model import ModelConfig
from bertft.config.registry import TASKS
from bertft.errors import DataError, UsageError
from bertft.models.folder import check_folder
from bertft.models.load import load_tokenizer
from bertft.models.precision import choose, resolve_device
from bertft.models.source import Source
from bertft.models.stated import check_stated
from bertft.runs.json_file import read_object
from bertft.tasks import build as build_task
from bertft.tasks import recognise
from bertft.tasks.shared.classes import listed_classes

__all__ = ["open_folder"]


def open_folder(
    folder: Path,
    precision: str,
    device: str,
    data: DataConfig | None,
    said: HeadSettings,
    trust: bool = False,
) -> Saved:
    """A merged or plain transformers folder; a prefix that a merge put beside is attached."""
    if any(folder.glob("*.onnx")) and not any(folder.glob("*.safetensors")):
        raise UsageError(
            "holds an ONNX graph and no weights that bertft runs", where=str(folder),
            hint="onnxruntime runs it: its README.md has the lines",
        )  # fmt: skip
    check_folder(folder)
    told = read_object(folder / "config.json")
    check_stated(told, str(folder / "config.json"))
    beside = read_beside(folder)
    with _of_file(folder / "config.json"):
        outputs = len(listed_classes(told))
        told["problem_type"] = said.problem_type(told.get("problem_type"), outputs)
        name, own = recognise(told, _of_other_package(beside.task, folder))
    said.check_task(name)
    labels = said.class_names(own)
    if data is None:
        data = replace(DataConfig(name=folder.name, task=name), **beside.answering)
    settings = ModelConfig(name=folder.name, path=str(folder), trust_remote_code=trust)
    tokenizer = load_tokenizer(settings)
    task = build_task(data, labels)
    source = Source(folder.name, "folder", str(folder.resolve()))
    adapted = assemble(
        source, settings, beside.method, task, tokenizer,
        choose(precision, resolve_device(device), "precision"),
    )  # fmt: skip
    _check_head(folder, adapted)
    if beside.prefix is not None:
        fill_prefix(folder, adapted.model)
    threshold = (_by_name(told.get(THRESHOLD), own, labels), folder / "config.json")
    return of_folder(folder, adapted, data, labels, beside.max_length, threshold)


@contextlib.contextmanager
def _of_file(file: Path) -> Iterator[None]:
    """Errors about ``config.json`` with the path of the file."""
    try:
        yield
    except UsageError as error:
        if error.where != file.name:
            raise
        raise UsageError(error.what, where=str(file), hint=error.hint) from error


def _of_other_package(task: str | None, folder: Path) -> str | None:
    """``task`` where another package registers it: bertft's own are recognised by their heads."""
    if task is None:
        return None
    if task not in TASKS:
        TASKS.report_missing(task, "task", str(folder / "bertft.json"))
    return task if TASKS.package(task) is not None else None


def _by_name(threshold: Any, own: list[str] | None, names: list[str] | None) -> Any:
    """A threshold for each label under the ``names`` that the user gave to the ``own`` ones."""
    if not isinstance(threshold, dict) or own is None or names is None:
        return threshold
    renamed = dict(zip(own, names, strict=True))
    return {renamed.get(label, label): each for label, each in threshold.items()}


def _check_head(folder: Path, adapted: Adapted) -> None:
    """DataError where weights of the head were drawn anew in loading, or left out."""
    lacking, surplus = sorted(adapted.drawn), sorted(adapted.left_out)
    if surplus and adapted.task.supervised:  # BERT's head of pretraining has a second part
        raise DataError(
            f"the head has no place for the weights {', '.join(surplus[:3])}: it was trained as"
            " another class of model", where=str(folder),
            hint="Such a head is not supported: its answers would be others",
        )  # fmt: skip
    if lacking:
        raise DataError(
            f"there are no weights for {', '.join(lacking[:3])}, or they have another shape",
            where=str(folder), hint="The folder is not whole, or its head was never trained",
        )  # fmt: skip
