"""Validation of a configuration: all problems of the overrides, the files and the result.

    validate_override   unknown groups, presets and settings; values of a wrong type
    validate_file       the same for every YAML file that is loaded, with file and line
    validate_config     missing values, choices, bounds, and the rules of ``bertft.config.rules``

A rule that reads an invalid setting reports nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bertft.config.foreign_names import foreign_hint, foreign_method_hint
from bertft.config.overrides import split_override
from bertft.config.presets import preset_groups
from bertft.config.rules import COMMAND_RULES
from bertft.config.schema import Leaf, Node, find_setting, iter_leaves, settings_tree
from bertft.config.values import missing_problem, placeholder, value_problems
from bertft.utils.messages import Problem, closest_name, end_sentence, suggest

__all__ = ["ConfigFile", "YamlLines", "validate_config", "validate_file", "validate_override"]

_PREFERRED_GROUPS = ("trainer", "data")


@dataclass(frozen=True)
class ConfigFile:
    """A YAML file of the configuration: the ``package`` of its keys and its ``content``."""

    path: str
    package: str
    content: Mapping[str, Any]
    group: str | None = field(default=None)


def validate_override(
    command: str, override: str, value: Any, presets: Mapping[str, Sequence[str]]
) -> Iterator[Problem]:
    """Problems of one override; ``value`` is its parsed value, not a sweep."""
    sign, key, text = split_override(override)
    if not key or (text is None and sign != "~"):
        entry, _ = find_setting(settings_tree(command), key)
        if key and isinstance(entry, Leaf):
            yield Problem(key, "has no value", f"Write {key}={placeholder(entry)}")
        else:
            yield Problem(override, "is not a setting", "Write settings as name=value")
        return
    if re.match(r"hydra($|[./])", key):
        # Hydra validates its own settings, except that a choice must be a name.
        if key == "hydra" or (key.startswith("hydra/") and not isinstance(value, str)):
            yield Problem(override, "is not a setting of Hydra", "Example: hydra.run.dir=<folder>")
        return
    root = settings_tree(command)
    if sign == "~":
        yield Problem(key, "settings cannot be removed", "Set it to null, or choose a preset")
    elif key in preset_groups() and key in root.children:
        yield from _preset_problems(root, key, value, presets[key])
    else:
        yield from _key_problems(root, key, value, text or "")


def validate_file(command: str, file: ConfigFile) -> Iterator[Problem]:
    """Problems of a YAML file, with file and line."""
    root, lines = settings_tree(command), YamlLines(file.path)
    package_node, _ = find_setting(root, file.package)
    names = package_node.children if isinstance(package_node, Node) else {}
    misplaced = [
        name
        for name in file.content
        if isinstance(root.children.get(name), Node) and name not in names
    ]
    if file.package and (file.group == "experiment" or misplaced):
        name = next(iter([*misplaced, *file.content]), None)
        example = "" if name is None else f": {name} would become {file.package}.{name}"
        yield Problem(
            file.path,
            f"Hydra would place its settings under {file.package}{example}",
            "Add the line # @package _global_, or use the file with bertft train config=<file>",
        )
        return
    for key, value in _iter_settings(root, file.content, file.package):
        if key == "hydra" or key.startswith("hydra."):
            continue
        relative_key = key.removeprefix(f"{file.package}.") if file.package else key
        for problem in _key_problems(root, key, value, str(value)):
            where = f"{lines.location(relative_key, _former(root, key))}: {problem.where}"
            yield Problem(where, problem.what, problem.hint)


def validate_config(
    command: str, config: Mapping[str, Any], unknown: Sequence[str] = ()
) -> Iterator[Problem]:
    """Problems of the composed configuration; ``unknown``: paths already reported."""
    root = settings_tree(command)
    invalid_paths = list(unknown)
    for problem, path in _value_problems(root, config):
        if not _is_under_any(path, unknown):
            yield problem
        invalid_paths.append(path)
    for rule in COMMAND_RULES[command]:
        read_paths: set[str] = set()
        problems = _apply_rule(rule, config, read_paths, invalid_paths)
        if not any(_is_under_any(path, invalid_paths) for path in read_paths):
            yield from problems


def _apply_rule(
    rule: Any, config: Mapping[str, Any], read_paths: set[str], invalid_paths: list[str]
) -> list[Any]:
    """The problems that ``rule`` reports; the paths that it reads are added to ``read_paths``."""

    def get(path: str) -> Any:
        read_paths.add(path)
        value: Any = config
        for name in path.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        return value

    try:
        return list(rule(get))
    except (TypeError, AttributeError):
        # An invalid value, which was reported already, can have any type. Else it is a bug.
        if any(_is_under_any(path, invalid_paths) for path in read_paths):
            return []
        raise


def _value_problems(node: Node, config: Mapping[str, Any]) -> Iterator[tuple[Problem, str]]:
    for name, child in node.children.items():
        value = config.get(name)
        if isinstance(child, Node):
            if isinstance(value, Mapping):
                yield from _value_problems(child, value)
            elif value is not None or not child.optional:
                yield Problem(child.path, "is missing", "Select a preset"), child.path
        elif value == "???" or (child.required and value in (None, "")):
            yield missing_problem(child), child.path
        else:
            for problem in value_problems(child, value):
                yield problem, child.path


def _preset_problems(root: Node, key: str, value: Any, presets: Sequence[str]) -> Iterator[Problem]:
    entry = root.children[key]
    if value is None and (isinstance(entry, Leaf) or entry.optional):
        return
    if str(value) not in presets:
        hint = suggest(value, presets)
        if key == "method":
            hint = foreign_method_hint(str(value)) or hint
        if key == "model":
            hint = f"{end_sentence(hint)} For a Hub id or a folder, set model.path={value}"
        yield Problem(key, f"there is no preset {key}={value}", hint)


def _key_problems(root: Node, key: str, value: Any, text: str) -> Iterator[Problem]:
    entry, parent = find_setting(root, key)
    if entry is None:
        yield _unknown_setting(root, parent, key)
    elif isinstance(entry, Leaf):
        if entry.path == key:
            yield from value_problems(entry, value)
    elif isinstance(value, Mapping):
        for inner_key, inner_value in _iter_settings(root, value, key):
            yield from _key_problems(root, inner_key, inner_value, str(inner_value))
    elif value is not None or not entry.optional:
        yield Problem(
            key,
            f"is a group of settings, not {text}",
            f"Its settings are {', '.join(entry.children)}",
        )


def _unknown_setting(root: Node, parent: Node, key: str) -> Problem:
    """Suggest the closest setting of the same group, else of the whole configuration."""
    prefix = f"{parent.path}." if parent.path else ""
    unknown_name = key.removeprefix(prefix).partition(".")[0]
    if key == "run" and "resume" in root.children:  # the name of this setting in all other commands
        return Problem(key, "unknown setting", "Use resume=<run> to resume a run")
    foreign = foreign_hint(key.rpartition(".")[2])
    if foreign is not None and root.path == "" and "trainer" in root.children:
        return Problem(key, "unknown setting", foreign)
    closest = closest_name(unknown_name, parent.children)
    if closest is None or parent is root:
        setting_name = key.rpartition(".")[2]
        path_by_name: dict[str, str] = {}
        for leaf in iter_leaves(root):
            name = leaf.path.rpartition(".")[2]
            priority = _group_priority(leaf.path)
            if name not in path_by_name or priority < _group_priority(path_by_name[name]):
                path_by_name[name] = leaf.path
        # An exact match in another group is better than a similar name in this group, unless that
        # is the plural: folds of cross_validate, and not data.fold.
        elsewhere = None
        if closest != f"{setting_name}s":
            elsewhere = path_by_name.get(setting_name)
        if not elsewhere and not closest:
            elsewhere = path_by_name.get(closest_name(setting_name, path_by_name) or "")
        if elsewhere:
            return Problem(key, "unknown setting", f"Did you mean '{elsewhere}'?")
    if closest is not None:
        rest = key.removeprefix(prefix)[len(unknown_name) :]
        return Problem(key, "unknown setting", f"Did you mean '{prefix}{closest}{rest}'?")
    return Problem(key, "unknown setting", suggest(unknown_name, parent.children))


def _group_priority(path: str) -> int:
    """Order of the groups if several have a setting of the same name."""
    group = path.partition(".")[0]
    return _PREFERRED_GROUPS.index(group) if group in _PREFERRED_GROUPS else len(_PREFERRED_GROUPS)


def _iter_settings(
    root: Node, content: Mapping[str, Any], prefix: str
) -> Iterator[tuple[str, Any]]:
    """Path and value of every setting and of every unknown key in a nested mapping."""
    for name, value in content.items():
        path = f"{prefix}.{name}" if prefix else str(name)
        entry, _ = find_setting(root, path)
        if isinstance(entry, Node) and isinstance(value, Mapping):
            yield from _iter_settings(root, value, path)
        else:
            yield path, value


def _former(root: Node, path: str) -> str | None:
    leaf, _ = find_setting(root, path)
    return leaf.former if isinstance(leaf, Leaf) else None


def _is_under_any(path: str, tops: Sequence[str]) -> bool:
    return any(path == top or path.startswith(f"{top}.") for top in tops)


class YamlLines:
    """Line numbers of the keys of a YAML file, for messages."""

    def __init__(self, path: str) -> None:
        self.path, self.root = path, None
        try:
            self.root = yaml.compose(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError):
            return  # messages name the file without a line

    def location(self, key: str, former: str | None = None) -> str:
        """``file:line`` of a dotted key, or of its ``former`` name; ``file`` if it is not found."""
        former_key = ".".join([*key.split(".")[:-1], former]) if former else key
        line = max(_line_of_key(self.root, name, 0) for name in (key, former_key))
        return f"{self.path}:{line}" if line else self.path


def _line_of_key(node: yaml.Node | None, key: str, line: int) -> int:
    """The line of ``key``, or of the deepest group above it; ``line`` if there is none."""
    for name_node, value in node.value if isinstance(node, yaml.MappingNode) else []:
        name, here = str(name_node.value), name_node.start_mark.line + 1
        if name == key:
            return here
        if key.startswith(f"{name}."):
            return _line_of_key(value, key.removeprefix(f"{name}."), here)
    return line
