"""How a rule looks at a configuration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bertft.config.schema import Leaf, locate, tree

__all__ = ["Get", "default"]

Get = Callable[[str], Any]


def default(path: str) -> Any:
    """The schema's default of a setting of ``train``."""
    entry, _ = locate(tree("train"), path)
    assert isinstance(entry, Leaf)
    return entry.default
