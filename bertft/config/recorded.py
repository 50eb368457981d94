"""Settings that a folder's bertft.json keeps, checked as those of a command line are.

A folder may come from somebody else: it says how its model answers, and never where rows, caches
or other files are.
"""

from __future__ import annotations

from typing import Any

from bertft.config.former_names import rename_settings
from bertft.config.schema import Leaf, Node, find_setting, settings_tree
from bertft.config.values import value_problems, is_deferred

__all__ = ["COMMAND_LINE_ONLY", "check_answer_settings", "check_recorded_settings"]

# Settings of ``data`` that say where something is: a folder does not choose them.
COMMAND_LINE_ONLY = (
    "source", "train", "validation", "unlabelled", "test", "hub", "subset", "sample", "cache",
)  # fmt: skip


def check_answer_settings(content: Any) -> dict[str, Any]:
    """Settings of ``data`` that the answers of a folder's model depend on. ValueError as below."""
    settings = check_recorded_settings("data", content if content is not None else {})
    for name in COMMAND_LINE_ONLY:
        if name in settings:
            raise ValueError(f"data.{name} comes from the command line alone")
    return settings


def check_recorded_settings(node: str, content: Any) -> dict[str, Any]:
    """Settings of the ``node`` of train's configuration. ValueError for what cannot be one."""
    group, _ = find_setting(settings_tree("train"), node)
    assert isinstance(group, Node)
    if not isinstance(content, dict):
        raise ValueError(f"{node} is no group of settings")
    content = rename_settings(group, content)
    for name, value in content.items():
        leaf = group.children.get(name)
        if not isinstance(leaf, Leaf):
            raise ValueError(f"{node}.{name} is unknown")
        if any(is_deferred(item) for item in (value if isinstance(value, list) else [value])):
            raise ValueError(f"{node}.{name} is not a literal value")
        for problem in value_problems(leaf, value):
            raise ValueError(f"{problem.where} {problem.what}")
        if leaf.type is bool and not isinstance(value, bool):
            raise ValueError(f"{node}.{name} is not true or false")
        if leaf.type in (int, float) and isinstance(value, (str, bool)):
            raise ValueError(f"{node}.{name} is not a number")
    return dict(content)
