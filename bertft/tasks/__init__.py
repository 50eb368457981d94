"""Tasks, one file each, found by name.

build(config, labels)      the task that ``data.task`` names
row_form(config)           what its rows hold, for ``bertft.data.sources``
recognise(model_config)    the task that a transformers folder was trained for
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bertft.config.data import DataConfig
from bertft.config.messages import did_you_mean
from bertft.config.tasks import task_names
from bertft.errors import UsageError

if TYPE_CHECKING:
    from bertft.data.row_form import RowForm
    from bertft.tasks.task import BaseTask

__all__ = ["TASKS", "build", "recognise", "row_form"]

TASKS: tuple[str, ...] = task_names()


def build(config: DataConfig, labels: Sequence[str] | None) -> BaseTask:
    """The task over ``labels``, the class names in order (None: a task without classes).

    Raises UsageError for an unknown task, or a metric that the task does not compute.
    """
    return _task(config.task)(config, labels)


def row_form(config: DataConfig) -> RowForm:
    """The form of the rows of the task that ``config`` names. UsageError for an unknown task."""
    return _task(config.task).row_form(config)


def recognise(model_config: Mapping[str, Any]) -> tuple[str, list[str] | None]:
    """Name and class names of the task whose head a folder's ``config.json`` describes.

    Raises UsageError where the head is none that bertft knows, or there is none.
    """
    for name in TASKS:
        task = _task(name)
        if task.carried_by(model_config):
            return name, task.labels_of(model_config)
    raise UsageError(
        f"{', '.join(model_config.get('architectures') or ['the model'])} has no head of a task",
        where="config.json",
        hint=f"bertft knows {', '.join(TASKS)}; train a head first",
    )


def _task(name: str) -> type[BaseTask]:
    if name not in TASKS:
        raise UsageError(
            f"unknown task {name!r}", where="data.task", hint=did_you_mean(name, TASKS)
        )
    return importlib.import_module(f"{__name__}.{name}").Task
