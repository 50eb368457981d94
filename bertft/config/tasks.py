"""What can be said of tasks without importing any, for torch comes with each.

Their names are those of the modules of ``bertft/tasks``: every one is a task except ``task``, the
contract; what tasks share lies in sub-packages. So a new task is one new file, and ``data.task``
admits its name.
"""

from __future__ import annotations

import pkgutil
from pathlib import Path

__all__ = ["LOWER_IS_BETTER", "task_names"]

LOWER_IS_BETTER = frozenset({"loss", "mse", "perplexity"})

_FOLDER = Path(__file__).parents[1] / "tasks"
_CONTRACT = "task"


def task_names() -> tuple[str, ...]:
    """Names that ``data.task`` admits, in alphabetical order."""
    modules = pkgutil.iter_modules([str(_FOLDER)])
    return tuple(sorted(m.name for m in modules if not m.ispkg and m.name != _CONTRACT))
