"""How a rule looks at a configuration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bertft.config.schema import Leaf, find_setting, settings_tree

__all__ = ["GetSetting", "default_value"]

GetSetting = Callable[[str], Any]


def default_value(path: str) -> Any:
    """The schema's default of a setting of ``train``."""
    entry, _ = find_setting(settings_tree("train"), path)
    assert isinstance(entry, Leaf)
    return entry.default
