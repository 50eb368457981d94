"""Every mistake of a configuration at once: in the words, in the YAML files, in the whole.

    words     unknown groups, presets and settings, with or without +; values of a wrong type
    files     the same for every YAML file that takes part, named with its line
    whole     what is missing, choices and bounds, and the rules of ``rules``

What cannot be judged because something it rests on is wrong is left out, not guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bertft.config.command_line import split
from bertft.config.folder import group_names
from bertft.config.messages import Problem, did_you_mean, nearest, suggestion
from bertft.config.rules import RULES
from bertft.config.schema import Leaf, Node, leaves, locate, tree
from bertft.config.values import faults

__all__ = ["File", "check_file", "check_whole", "check_word"]

_MEANT_FIRST = ("trainer", "data")


@dataclass(frozen=True)
class File:
    """A YAML file of the configuration: where its keys go (``package``) and what it holds."""

    path: str
    package: str
    content: Mapping[str, Any]
    group: str | None = field(default=None)


def check_word(
    command: str, word: str, value: Any, presets: Mapping[str, Sequence[str]]
) -> Iterator[Problem]:
    """Mistakes of one override, whose parsed value (not a sweep) is ``value``."""
    sign, key, text = split(word)
    if not key or (text is None and sign != "~"):
        yield Problem(word, "is no setting", "Settings are written trainer.epochs=3")
        return
    if re.match(r"hydra($|[./])", key):
        # Hydra knows its own settings, but for a group's choice that is no name.
        if key == "hydra" or (key.startswith("hydra/") and not isinstance(value, str)):
            yield Problem(word, "is no choice of Hydra's", "For example hydra.run.dir=<folder>")
        return
    root = tree(command)
    if sign == "~":
        yield Problem(key, "a setting cannot be taken away", "Set it to null, or choose a preset")
    elif key in group_names() and key in root.children:
        yield from _choice(root, key, value, presets[key])
    else:
        yield from _keys(root, key, value, text or "")


def check_file(command: str, file: File) -> Iterator[Problem]:
    """Mistakes of a YAML file, by file and line."""
    root, lines = tree(command), _Lines(file.path)
    if file.group == "experiment" and file.package:
        yield Problem(
            file.path, "its settings would go below experiment", "Open it with # @package _global_"
        )
        return
    for key, value in _flat(root, file.content, file.package):
        if key == "hydra" or key.startswith("hydra."):
            continue
        inside = key.removeprefix(f"{file.package}.") if file.package else key
        for problem in _keys(root, key, value, str(value)):
            where = f"{lines.of(inside, _former(root, key))}: {problem.where}"
            yield Problem(where, problem.what, problem.hint)


def check_whole(
    command: str, config: Mapping[str, Any], unknown: Sequence[str] = ()
) -> Iterator[Problem]:
    """Mistakes of the composed configuration; ``unknown`` are paths whose value is not known."""
    root = tree(command)
    wrong = list(unknown)
    for problem, path in _values(root, config):
        if not _below(path, unknown):
            yield problem
        wrong.append(path)
    for rule in RULES[command]:
        read: set[str] = set()
        problems = _listen(rule, config, read, wrong)
        if not any(_below(path, wrong) for path in read):
            yield from problems


def _listen(rule: Any, config: Mapping[str, Any], read: set[str], wrong: list[str]) -> list[Any]:
    """What ``rule`` finds; the paths that it looked at go to ``read``."""

    def get(path: str) -> Any:
        read.add(path)
        value: Any = config
        for name in path.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        return value

    try:
        return list(rule(get))
    except (TypeError, AttributeError):
        # A value that has been reported already may have any type; anything else is our mistake.
        if any(_below(path, wrong) for path in read):
            return []
        raise


def _values(node: Node, config: Mapping[str, Any]) -> Iterator[tuple[Problem, str]]:
    for name, child in node.children.items():
        value = config.get(name)
        if isinstance(child, Node):
            if isinstance(value, Mapping):
                yield from _values(child, value)
            elif value is not None or not child.optional:
                yield Problem(child.path, "is missing", "Choose a preset"), child.path
        elif value == "???" or (child.required and value in (None, "")):
            yield Problem(child.path, "is missing", f"{child.meaning}"), child.path
        else:
            for problem in faults(child, value):
                yield problem, child.path


def _choice(root: Node, key: str, value: Any, presets: Sequence[str]) -> Iterator[Problem]:
    entry = root.children[key]
    if value is None and (isinstance(entry, Leaf) or entry.optional):
        return
    if str(value) not in presets:
        yield Problem(key, f"there is no {key}={value}", suggestion(value, presets))


def _keys(root: Node, key: str, value: Any, text: str) -> Iterator[Problem]:
    entry, parent = locate(root, key)
    if entry is None:
        yield _unknown(root, parent, key)
    elif isinstance(entry, Leaf):
        if entry.path == key:
            yield from faults(entry, value)
    elif isinstance(value, Mapping):
        for inner, each in _flat(root, value, key):
            yield from _keys(root, inner, each, str(each))
    elif value is not None or not entry.optional:
        yield Problem(
            key, f"is a group of settings, not {text}",
            f"Its settings are {', '.join(entry.children)}",
        )  # fmt: skip


def _unknown(root: Node, parent: Node, key: str) -> Problem:
    """The nearest setting: beside it, else anywhere by its own name."""
    prefix = f"{parent.path}." if parent.path else ""
    wrong = key.removeprefix(prefix).partition(".")[0]
    if key == "run" and "resume" in root.children:  # what every other command calls it
        return Problem(key, "unknown setting", "To go on with a run, write resume=")
    close = nearest(wrong, parent.children)
    if close is None or parent is root:
        last = key.rpartition(".")[2]
        ends: dict[str, str] = {}
        for leaf in leaves(root):
            name = leaf.path.rpartition(".")[2]
            rank = _rank(leaf.path)
            if name not in ends or rank < _rank(ends[name]):
                ends[name] = leaf.path
        # One exact name elsewhere beats one that is only like it here.
        elsewhere = ends.get(last) or (ends.get(nearest(last, ends) or "") if not close else None)
        if elsewhere:
            return Problem(key, "unknown setting", f"Did you mean '{elsewhere}'?")
    if close is not None:
        rest = key.removeprefix(prefix)[len(wrong) :]
        return Problem(key, "unknown setting", f"Did you mean '{prefix}{close}{rest}'?")
    hint = did_you_mean(wrong, parent.children)
    return Problem(key, "unknown setting", f"There {hint.replace('one of', 'are', 1)}")


def _rank(path: str) -> int:
    """Where several groups have a setting of one name, the one that is meant most often."""
    group = path.partition(".")[0]
    return _MEANT_FIRST.index(group) if group in _MEANT_FIRST else len(_MEANT_FIRST)


def _flat(root: Node, content: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Keys of a nested mapping, down to settings and to what is unknown."""
    for name, value in content.items():
        path = f"{prefix}.{name}" if prefix else str(name)
        entry, _ = locate(root, path)
        if isinstance(entry, Node) and isinstance(value, Mapping):
            yield from _flat(root, value, path)
        else:
            yield path, value


def _former(root: Node, path: str) -> str | None:
    leaf, _ = locate(root, path)
    return leaf.former if isinstance(leaf, Leaf) else None


def _below(path: str, tops: Sequence[str]) -> bool:
    return any(path == top or path.startswith(f"{top}.") for top in tops)


class _Lines:
    """Lines of the keys of a YAML file, for messages."""

    def __init__(self, path: str) -> None:
        self.path, self.root = path, None
        try:
            self.root = yaml.compose(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError):
            return  # the file is named without a line

    def of(self, key: str, former: str | None) -> str:
        """``file:line`` of a dotted key, which may stand under its ``former`` last name.

        ``file`` alone where it is not found.
        """
        node, line = self.root, None
        *groups, last = key.split(".")
        for names in [*((group,) for group in groups), (last, former)]:
            pairs = node.value if isinstance(node, yaml.MappingNode) else []
            found = next(((k, v) for k, v in pairs if k.value in names), None)
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        return self.path if line is None else f"{self.path}:{line}"
