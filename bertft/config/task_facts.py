"""Facts about tasks and metrics from their descriptions, without torch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from bertft.config.registry import METRICS, TASKS

__all__ = [
    "LOWER_IS_BETTER",
    "TASKS_BY_SETTING",
    "head_classes",
    "is_metric_function",
    "join_words",
    "tasks_with",
]

LOWER_IS_BETTER = frozenset(
    name for name, metric in METRICS.specs().items() if not metric.higher_is_better
)
# Setting of ``data`` → the tasks that read it, for settings that not every task reads.
TASKS_BY_SETTING = {
    setting: [name for name, task in TASKS.specs().items() if setting in task.settings]
    for spec in TASKS.specs().values()
    for setting in spec.settings
}


def is_metric_function(metric: Any) -> bool:
    """Whether ``metric`` is the name of a Python function, ``package.module:function``."""
    return isinstance(metric, str) and ":" in metric


def tasks_with(trait: str) -> tuple[str, ...]:
    """Names of the tasks whose description has a true value of ``trait``, alphabetically."""
    return tuple(name for name in TASKS.names() if getattr(TASKS[name], trait))


def join_words(names: Sequence[str], conjunction: str = "and") -> str:
    """``a, b and c``."""
    return f" {conjunction} ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def head_classes(model_config: Mapping[str, Any]) -> set[str]:
    """``ForSequenceClassification`` and the like, without the names of the encoders."""
    heads = [re.search(r"For[A-Z]\w*$", name) for name in model_config.get("architectures") or []]
    return {head.group() for head in heads if head is not None}
