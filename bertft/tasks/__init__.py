"""Tasks, one file each, registered by name (``bertft.config.registry.TASKS``).

build(config, labels)      the task that ``data.task`` names
recognise(model_config)    the task that a transformers folder was trained for
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bertft.config.data import DataConfig
from bertft.config.registry import TASKS
from bertft.errors import UsageError

if TYPE_CHECKING:
    from bertft.tasks.task import BaseTask

__all__ = ["build_task", "detect_task"]


def build_task(config: DataConfig, labels: Sequence[str] | None) -> BaseTask:
    """The task over ``labels``, the class names in order (None: a task without classes).

    Raises UsageError for an unknown task, or a metric that the task does not compute.
    """
    return _task_class(config.task)(config, labels)


def detect_task(
    model_config: Mapping[str, Any], recorded: str | None = None
) -> tuple[str, list[str] | None]:
    """Name and class names of the task whose head a folder's ``config.json`` describes.

    ``recorded``: the task that the folder itself names.

    Raises UsageError where the head is none that bertft knows, or there is none.
    """
    if recorded is not None:
        return recorded, _task_class(recorded).class_names_from_config(model_config)
    for name in sorted(TASKS.names(), key=lambda name: TASKS.package(name) is not None):
        task = _task_class(name)
        if task.matches_config(model_config):
            return name, task.class_names_from_config(model_config)
    raise UsageError(
        f"{', '.join(model_config.get('architectures') or ['the model'])} has no head of a task",
        where="config.json",
        hint=f"bertft knows {', '.join(TASKS.names())}; train a head first",
    )


def _task_class(name: str) -> type[BaseTask]:
    cls: type[BaseTask] = TASKS.implementation(name, "task_class")
    return cls
