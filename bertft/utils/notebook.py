"""HTML output in a Jupyter kernel. A kernel has IPython, which bertft does not require."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable

__all__ = ["display_html", "is_notebook"]


def is_notebook() -> bool:
    """Whether this process is the kernel of a notebook, which displays HTML."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and type(shell).__name__ == "ZMQInteractiveShell"


def display_html(text: str) -> Callable[[str], object]:
    """Show ``text`` as an output of the cell; returns a function that replaces it."""
    ipython = importlib.import_module("IPython.display")
    handle = ipython.display(ipython.HTML(text), display_id=True)
    return lambda new_text: handle.update(ipython.HTML(new_text))
