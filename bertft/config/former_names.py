"""Former names of settings and of their choices, which are still supported.

    root = settings_tree("train")
    current_path(root, "trainer.clip")               -> "trainer.max_grad_norm"
    rename_settings(root, {"trainer": {"clip": 1}})  -> {"trainer": {"max_grad_norm": 1}}

The definition of a setting has its former name and the former names of its choices
(``setting(..., former="clip")``). A former name on the command line or in the user's YAML files
causes one warning; in files that bertft wrote it causes none.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

from bertft.config.schema import Leaf, Node, iter_leaves, node_from_dataclass
from bertft.utils.terminal import print_warning

__all__ = ["current_path", "current_text", "current_value", "rename_settings", "report_former"]


def current_path(root: Node, path: str) -> str:
    """The present path of a setting whose former path is ``path``; any other ``path`` unchanged."""
    return _former_paths(root.path, root.cls).get(path, path) if path else path


def current_value(leaf: Leaf, value: Any) -> Any:
    """``value`` with a former choice replaced by the present one."""
    return leaf.former_choices.get(value, value) if isinstance(value, str) else value


def current_text(leaf: Leaf, text: str) -> str:
    """The text of an override, which may be a sweep (``rows,padded``), with present choices."""
    for former, current in leaf.former_choices.items():
        text = re.sub(rf"(?<!\w){re.escape(former)}(?!\w)", current, text)
    return text


def rename_settings(
    node: Node, content: Mapping[str, Any], where: str | None = None
) -> dict[str, Any]:
    """``content``, the settings of ``node``, with present names and choices.

    A former name next to the present one is not renamed, and is reported as an unknown setting.
    ``where`` is the file for the warnings; None for no warnings.
    """
    renamed: dict[str, Any] = {}
    by_former = {
        child.former: name
        for name, child in node.children.items()
        if isinstance(child, Leaf) and child.former is not None
    }
    for name, value in content.items():
        present = by_former.get(name, name)
        if present != name and (present in content or present in renamed):
            present = name
        child = node.children.get(present)
        if isinstance(child, Node) and isinstance(value, Mapping):
            value = rename_settings(child, value, where)
        elif isinstance(child, Leaf):
            current = current_value(child, value)
            if where is not None and present != name:
                report_former(f"{where}: {name}", child.path)
            if where is not None and current != value:
                report_former(f"{where}: {child.path}={value}", f"{child.path}={current}")
            value = current
        renamed[present] = value
    return renamed


@functools.cache
def report_former(former: str, current: str) -> None:
    """Warn, once per process, that ``former`` is now called ``current``."""
    print_warning(f"{former} is now called {current}; the former name still works")


@functools.cache
def _former_paths(path: str, cls: type) -> dict[str, str]:
    return {
        f"{leaf.path.rpartition('.')[0]}.{leaf.former}".lstrip("."): leaf.path
        for leaf in iter_leaves(node_from_dataclass(cls, path))
        if leaf.former is not None
    }
