"""Bash, zsh and fish completion: ``eval "$(bertft -sc install=bash)"``.

Hydra's shell scripts call ``bertft -sc query=bash`` with the line in COMP_LINE. The completions
come from the schema and the presets, without composing a configuration.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.completion_plugin import CompletionPlugin

from bertft.config.command_configs import COMMAND_CONFIGS
from bertft.config.presets import find_presets, preset_groups
from bertft.config.schema import Leaf, Node, find_setting, settings_tree
from bertft.utils.messages import Problem, suggest, usage_error

__all__ = ["complete_line", "completion_script"]


def complete_line(line: str) -> list[str]:
    """Completions of the last word of ``line``, which starts with the program's name."""
    words = line.split()[1:]
    prefix = "" if not words or line[-1:].isspace() else words.pop()
    if not words:
        return sorted(name for name in COMMAND_CONFIGS if name.startswith(prefix))
    if words[0] not in COMMAND_CONFIGS:
        return []
    return sorted(set(_iter_completions(settings_tree(words[0]), prefix)))


def completion_script(shell: str, action: str) -> str:
    """Hydra's script for ``shell`` to evaluate; ``action`` is install or uninstall."""
    plugins: dict[str, Any] = {
        plugin.provides(): plugin  # type: ignore[attr-defined]
        for plugin in Plugins.instance().discover(CompletionPlugin)
    }
    if shell not in plugins or action not in ("install", "uninstall"):
        hint = suggest(shell, plugins)
        raise usage_error([Problem(f"-sc {action}={shell}", "is not supported", hint)])
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        getattr(plugins[shell](None), action)()
    return printed.getvalue()


def _iter_completions(root: Node, word: str) -> Iterator[str]:
    key, equals, value = word.partition("=")
    if equals:
        yield from (
            f"{key}={candidate}"
            for candidate in _value_completions(root, key, value)
            if candidate.startswith(value)
        )
        return
    base, dot, _ = word.rpartition(".")
    node, _ = find_setting(root, base)
    if not isinstance(node, Node):
        return
    groups = preset_groups()
    for name, child in node.children.items():
        path = f"{base}{dot}{name}"
        if path.startswith(word):
            if path in groups:
                yield f"{path}="
            if isinstance(child, Node):
                yield f"{path}."
            elif path not in groups:
                yield f"{path}="


def _value_completions(root: Node, key: str, value: str) -> list[str]:
    if key in preset_groups() and key in root.children:
        return list(find_presets(key))
    entry, _ = find_setting(root, key)
    if not isinstance(entry, Leaf) or entry.path != key:
        return []
    if entry.choices:
        return list(entry.choices)
    if entry.type is bool:
        return ["true", "false"]
    if entry.file is not None:
        item_start = 1 + max(value.rfind("["), value.rfind(","))  # the last item of a list
        start, prefix = value[:item_start], value[item_start:]
        return (
            [f"{start}{file_name}" for file_name in CompletionPlugin.complete_files(prefix)]
            if prefix
            else []
        )
    return []
