"""What a merged folder holds beside a plain transformers model: ``bertft.json``, maybe a prefix.

    config.json            "decision_threshold": τ or {label: τ}, where one was tuned
    bertft.json            {"task": name, "max_length": n, "answering": {…},
                            "prefix": settings or null}
    prefix.safetensors     trained vectors, where merge was told prefix=beside

Plain transformers ignores them; ``bertft eval|predict`` use them, so that they give the run's
answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from bertft.config.method import MethodConfig
from bertft.config.parts.prefix import Settings
from bertft.config.recorded import recorded_answering, recorded_settings
from bertft.errors import DataError
from bertft.runs.atomic import write_json
from bertft.runs.json_file import read_object
from bertft.runs.tensors import read_tensors, write_tensors
from bertft.tasks.task import Threshold

__all__ = ["THRESHOLD", "Beside", "fill_prefix", "read_beside", "tell_threshold", "write_beside"]

THRESHOLD = "decision_threshold"
_FACTS, _PREFIX = "bertft.json", "prefix.safetensors"


class Beside:
    """``max_length`` None: nothing is known; ``method`` has at most a prefix.

    ``answering``: the settings of ``data`` that the task's answers depend on. ``task``: as the
    folder records it; earlier versions did not.
    """

    def __init__(
        self,
        max_length: int | None = None,
        prefix: Settings | None = None,
        answering: Mapping[str, Any] | None = None,
        task: str | None = None,
    ) -> None:
        self.max_length, self.prefix, self.task = max_length, prefix, task
        self.answering = dict(answering or {})

    @property
    def method(self) -> Any:
        return MethodConfig(name="merged", prefix=self.prefix)


def write_beside(
    folder: Path,
    max_length: int,
    prefix: Settings | None,
    model: Any,
    answering: Mapping[str, Any] | None = None,
    task: str | None = None,
) -> None:
    """Leave both files in ``folder``; the prefix's vectors are taken from ``model``."""
    settings = asdict(prefix) if prefix is not None else None
    facts: dict[str, Any] = {} if task is None else {"task": task}
    facts |= {"max_length": max_length, "answering": dict(answering or {}), "prefix": settings}
    write_json(folder / _FACTS, facts)
    if prefix is not None:
        write_tensors(folder / _PREFIX, _vectors(model))


def tell_threshold(config: Any, threshold: Threshold | None) -> None:
    """Let a transformers ``config`` hold ``threshold``, and none that its base was tuned to."""
    if threshold is not None:
        setattr(config, THRESHOLD, threshold)
    elif hasattr(config, THRESHOLD):
        delattr(config, THRESHOLD)


def read_beside(folder: Path) -> Beside:
    """DataError if what is there cannot be read."""
    if not (folder / _FACTS).is_file():
        return Beside()
    content = read_object(folder / _FACTS)
    try:
        settings, length = content.get("prefix"), content["max_length"]
        if length is not None and not (type(length) is int and 0 < length < 1 << 31):
            raise ValueError(f"max_length is {length!r}")
        prefix = None
        if settings is not None:
            prefix = Settings(**recorded_settings("method.prefix", settings))
        task = content.get("task")
        if task is not None and not isinstance(task, str):
            raise ValueError(f"task is {task!r}")
        return Beside(length, prefix, recorded_answering(content.get("answering")), task)
    except KeyError as error:
        raise DataError(f"has no {error.args[0]}", where=str(folder / _FACTS)) from None
    except ValueError as error:
        raise DataError(f"is of another form ({error})", where=str(folder / _FACTS)) from None


def fill_prefix(folder: Path, model: Any) -> None:
    """Copy the vectors beside the model into its attached prefix."""
    saved, own = read_tensors(folder / _PREFIX), _vectors(model)
    if {name: t.shape for name, t in saved.items()} != {name: t.shape for name, t in own.items()}:
        raise DataError("is not the prefix that bertft.json describes", where=str(folder / _PREFIX))
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(saved[name])


def _vectors(model: Any) -> dict[str, torch.Tensor]:
    named = model.named_parameters()
    return {name: each for name, each in named if name.startswith(("prefix.", "prompt."))}
