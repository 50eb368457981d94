"""Tasks, one file each, found by name: ``build(config, labels)`` makes the one ``data.task`` names."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bertft.config.data import DataConfig
from bertft.config.messages import did_you_mean
from bertft.config.tasks import task_names
from bertft.errors import UsageError

if TYPE_CHECKING:
    from bertft.tasks.task import BaseTask

__all__ = ["TASKS", "build"]

TASKS: tuple[str, ...] = task_names()


def build(config: DataConfig, labels: Sequence[str] | None) -> BaseTask:
    """The task over ``labels``, the class names in order (None: a task without classes).

    Raises UsageError for an unknown task, or a metric that the task does not compute.
    """
    if config.task not in TASKS:
        raise UsageError(
            f"unknown task {config.task!r}",
            where="data.task",
            hint=did_you_mean(config.task, TASKS),
        )
    return importlib.import_module(f"{__name__}.{config.task}").Task(config, labels)
