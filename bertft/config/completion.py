"""Bash, zsh and fish completion: ``eval "$(bertft -sc install=bash)"``.

Hydra's shell scripts ask with ``bertft -sc query=bash`` and the line in COMP_LINE; the answer
comes from the schema and the presets, so that it needs no composing and knows every choice.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.completion_plugin import CompletionPlugin

from bertft.config.commands import COMMANDS
from bertft.config.folder import group_names, presets
from bertft.config.messages import Problem, did_you_mean, usage_error
from bertft.config.schema import Leaf, Node, locate, tree

__all__ = ["complete", "script"]

_PATHS = frozenset(
    [
        "run", "adapter", "base", "out", "input", "output", "resume", "path", "tokenizer", "cache",
        "dir", "train", "validation", "test", "runs", "against",
    ]
)  # fmt: skip


def complete(line: str) -> list[str]:
    """Words that may stand last on ``line``, which begins with the program's name."""
    words = line.split()[1:]
    last = "" if not words or line[-1:].isspace() else words.pop()
    if not words:
        return sorted(name for name in COMMANDS if name.startswith(last))
    if words[0] not in COMMANDS:
        return []
    return sorted(set(_matches(tree(words[0]), last)))


def script(shell: str, action: str) -> str:
    """What the shell shall evaluate: Hydra's script for ``shell``, action install or uninstall."""
    plugins: dict[str, Any] = {
        plugin.provides(): plugin  # type: ignore[attr-defined]
        for plugin in Plugins.instance().discover(CompletionPlugin)
    }
    if shell not in plugins or action not in ("install", "uninstall"):
        hint = did_you_mean(shell, plugins)
        raise usage_error([Problem(f"-sc {action}={shell}", "is not known", hint)])
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        getattr(plugins[shell](None), action)()
    return printed.getvalue()


def _matches(root: Node, word: str) -> Iterator[str]:
    key, equals, value = word.partition("=")
    if equals:
        yield from (f"{key}={each}" for each in _values(root, key, value) if each.startswith(value))
        return
    base, dot, _ = word.rpartition(".")
    node, _ = locate(root, base)
    if not isinstance(node, Node):
        return
    groups = group_names()
    for name, child in node.children.items():
        full = f"{base}{dot}{name}"
        if full.startswith(word):
            if full in groups:
                yield f"{full}="
            if isinstance(child, Node):
                yield f"{full}."
            elif full not in groups:
                yield f"{full}="


def _values(root: Node, key: str, value: str) -> list[str]:
    if key in group_names() and key in root.children:
        return list(presets(key))
    entry, _ = locate(root, key)
    if not isinstance(entry, Leaf) or entry.path != key:
        return []
    if entry.choices:
        return list(entry.choices)
    if entry.type is bool:
        return ["true", "false"]
    if key.rpartition(".")[2] in _PATHS:
        place = 1 + max(value.rfind("["), value.rfind(","))  # the last item of a list
        start, last = value[:place], value[place:]
        return [f"{start}{each}" for each in CompletionPlugin.complete_files(last)] if last else []
    return []
