"""Facts about tasks and metrics from their descriptions, without torch."""

from __future__ import annotations

from collections.abc import Sequence

from bertft.config.registry import METRICS, TASKS

__all__ = ["LOWER_IS_BETTER", "TASKS_BY_SETTING", "join_words", "tasks_with"]

LOWER_IS_BETTER = frozenset(
    name for name, metric in METRICS.specs().items() if not metric.higher_is_better
)
# Setting of ``data`` → the tasks that read it, for settings that not every task reads.
TASKS_BY_SETTING = {
    setting: [name for name, task in TASKS.specs().items() if setting in task.settings]
    for spec in TASKS.specs().values()
    for setting in spec.settings
}


def tasks_with(trait: str) -> tuple[str, ...]:
    """Names of the tasks whose description has a true value of ``trait``, alphabetically."""
    return tuple(name for name in TASKS.names() if getattr(TASKS[name], trait))


def join_words(names: Sequence[str], conjunction: str = "and") -> str:
    """``a, b and c``."""
    return f" {conjunction} ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
