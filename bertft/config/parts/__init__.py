"""The parts a method is composed of: one module here per node of ``method``, found by name.

Each module defines one dataclass ``Settings``; the node's name is the module's. The code that
acts on it is ``bertft.methods.<same name>``.
"""

from __future__ import annotations

import importlib
import pkgutil

__all__ = ["part_settings"]


def part_settings() -> dict[str, type]:
    """Node name → settings dataclass, in alphabetical order of the names."""
    names = sorted(info.name for info in pkgutil.iter_modules(__path__))
    return {name: importlib.import_module(f"{__name__}.{name}").Settings for name in names}
