"""The names of the tasks: the modules of ``bertft/tasks``, found without importing any of them.

Every module there is a task except ``task``, the contract; what tasks share lies in sub-packages.
So a new task is one new file, and ``data.task`` admits its name.
"""

from __future__ import annotations

import pkgutil
from pathlib import Path

__all__ = ["task_names"]

_FOLDER = Path(__file__).parents[1] / "tasks"
_CONTRACT = "task"


def task_names() -> tuple[str, ...]:
    """Names that ``data.task`` admits, in alphabetical order."""
    modules = pkgutil.iter_modules([str(_FOLDER)])
    return tuple(sorted(m.name for m in modules if not m.ispkg and m.name != _CONTRACT))
