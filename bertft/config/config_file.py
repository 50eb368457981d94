"""``bertft train config=my.yaml``: the settings of a YAML file, below those of the command line.

    method: lora                 # a preset; {name: lora, rank: 4} also sets the rank
    data:
      train: tickets.csv         # selects data=files
      text: message
    trainer.epochs: 5            # the same as trainer: {epochs: 5}

``config.yaml`` of a run has the same form, and so do files with ``# @package _global_`` and a list
``defaults``. A preset on the command line replaces the whole group of the file.

The file may come from somebody else. It is read as plain data (no tags, no interpolations), and it
cannot set what executes code or belongs to one machine (``_COMMAND_LINE_ONLY``).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore

from bertft.config.command_configs import TRAINING_COMMANDS
from bertft.config.former_names import current_path, rename_settings
from bertft.config.overrides import OPEN_GROUP, format_value, split_override, unquote_value
from bertft.config.presets import decode_yaml, find_presets, preset_groups
from bertft.config.schema import Node, settings_tree
from bertft.config.validation import ConfigFile, YamlLines, validate_file, validate_override
from bertft.utils.messages import Problem, first_line, missing_file_problem, usage_error
from bertft.utils.safe_files import parse_plain_yaml, read_regular_bytes
from bertft.utils.terminal import print_warning

__all__ = ["CONFIG_GROUP", "config_file_paths", "expand_config_file"]

CONFIG_GROUP = f"{OPEN_GROUP}/config"  # hidden presets with the settings of a file
_MAX_BYTES = 1 << 19
_PACKAGE = re.compile(r"^\s*#\s*@package\s+(\S+)", re.MULTILINE)
_HYDRA_SETTINGS = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir")
# Setting → why a file cannot set it. Null and false have no effect and are valid.
_COMMAND_LINE_ONLY = {
    "model.trust_remote_code": "it executes code of the model's repository",
    "resume": "it changes an existing run",
    "config": "a file cannot include another one",
}
_IGNORED = ("data.cache",)  # a folder of the machine on which the file was written
_paths_by_name: dict[str, tuple[str, ...]] = {}


def expand_config_file(
    command: str, words: Sequence[str], config_dir: Path | None = None
) -> list[str]:
    """``words`` with ``config=<file>`` replaced by the presets and settings of the file.

    The settings become a hidden preset of Hydra, so that any value can be passed.

    Args:
        command: a key of ``COMMAND_CONFIGS``; only train and tune have the setting. For tune, the
            group ``tune`` of the file becomes overrides.
        words: the arguments of the command line, after ``expand_positional``.
        config_dir: the folder of ``--config-dir``.

    Raises:
        UsageError: lists every problem of the file with its line and the closest valid name.
    """
    values = [value for _, key, value in map(split_override, words) if key == "config"]
    if command not in TRAINING_COMMANDS or not values:
        return list(words)
    words = [word for word in words if split_override(word)[1] != "config"]
    name = unquote_value(values[-1] or "")
    if name == "null":
        return words
    root = settings_tree(command)
    explicit = {current_path(root, key): value for _, key, value in map(split_override, words)}
    if explicit.get("experiment") not in (None, "null"):
        raise usage_error(
            [Problem("config", "cannot be combined with experiment", "Set experiment in the file")]
        )
    path = _find_file(name)
    presets, content = _read_file(path, explicit, config_dir)
    tune_words = list(_tune_words(content.pop("tune", None) or {}))
    is_file_data = "data" not in presets and "data" not in explicit and "experiment" not in presets
    if is_file_data and ("data.train" in explicit or (content.get("data") or {}).get("train")):
        presets["data"] = "files"
    presets = {group: preset for group, preset in presets.items() if group not in explicit}
    for group in {*preset_groups(), "hydra"} & explicit.keys():
        content.pop(group, None)
    for key in explicit:
        _drop_null_parents(content, key)
    return [
        *(f"{group}={preset}" for group, preset in presets.items()),
        f"+{CONFIG_GROUP}={_store(content)}",
        *(tune_words if command == "tune" else ()),
        *words,
    ]


def config_file_paths(name: str) -> tuple[str, ...]:
    """The settings in the hidden preset ``name`` that ``expand_config_file`` has added."""
    return _paths_by_name.get(name, ())


def _find_file(name: str) -> Path:
    path = Path(name).expanduser()
    if (path / "config.yaml").is_file():  # a run folder
        return path / "config.yaml"
    problem = missing_file_problem(name, "config")
    if problem is not None:
        raise usage_error([problem])
    return path


def _tune_words(settings: Mapping[str, Any]) -> Iterator[str]:
    """The group ``tune`` of a file as overrides; a list in tune.space is a choice."""
    for name, value in settings.items():
        if name != "space" or not isinstance(value, Mapping):
            yield f"tune.{name}={format_value(value)}"
            continue
        if not value:
            yield "tune.space={}"
        for path, distribution in _iter_values(value, ""):
            if isinstance(distribution, list):
                distribution = f"choice({format_value(distribution)[1:-1]})"
            yield f"tune.space.{path}={distribution}"


def _iter_values(content: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in content.items():
        path = f"{prefix}.{name}" if prefix else str(name)
        if isinstance(value, Mapping):
            yield from _iter_values(value, path)
        else:
            yield path, value


def _read_file(
    path: Path, explicit: Mapping[str, Any], config_dir: Path | None
) -> tuple[dict[str, str], dict[str, Any]]:
    """The presets that a file selects, and its settings with present names.

    Any file can have a group ``tune``, so that it can be used for train and for tune.
    """
    text = _read_text(path)
    content = _parse(text, path)
    is_tune = any(str(key).partition(".")[0] == "tune" for key in content)
    command = "tune" if is_tune else "train"
    root = settings_tree(command)
    package = next(iter(_PACKAGE.findall(text)), "_global_")
    if package != "_global_":
        content = {package: content}
    presets, problems = _read_defaults(content.pop("defaults", None), path)
    content = rename_settings(root, _nest(content), str(path))
    lines = YamlLines(str(path))
    _drop_unknown_null_methods(root, content)
    presets |= _select_presets(root, content, config_dir)
    problems += _find_problems(path, command, lines, content, presets, explicit, config_dir)
    if problems:
        raise usage_error(problems)
    for setting in _IGNORED:
        if _pop(content, setting) is not None:
            print_warning(f"{path}: {setting} is ignored; set it on the command line")
    for setting in _COMMAND_LINE_ONLY:
        _pop(content, setting)
    return presets, content


def _read_text(path: Path) -> str:
    """The text of a file that the user wrote: there is no other copy to restore."""
    content = read_regular_bytes(path, _MAX_BYTES, "Set config=<YAML file of settings>")
    return decode_yaml(content, path)


def _parse(text: str, path: Path) -> dict[str, Any]:
    try:
        content = parse_plain_yaml(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        what = f"is not valid YAML ({error.problem})"
        raise usage_error([Problem(where, what, "Check the indentation")]) from None
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        raise usage_error([Problem(str(path), first_line(error), "Write plain values")]) from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        kind = "a list" if isinstance(content, list) else "a single value"
        what = f"expected settings with values, got {kind}"
        raise usage_error([Problem(str(path), what, "Write one setting per line, as in seed: 1")])
    return content


def _read_defaults(entries: Any, path: Path) -> tuple[dict[str, str], list[Problem]]:
    """Hydra's list ``defaults``: the presets that it selects, and what is not supported."""
    presets: dict[str, str] = {}
    problems: list[Problem] = []
    for entry in entries if isinstance(entries, list) else [] if entries is None else [entries]:
        is_pair = isinstance(entry, dict) and len(entry) == 1
        group, preset = next(iter(entry.items())) if is_pair else (entry, None)
        group = str(group).removeprefix("override ").strip().removeprefix("/")
        if group in preset_groups() and isinstance(preset, str):
            presets[group] = preset
        elif entry != "_self_":
            problems.append(
                Problem(
                    f"{path}: defaults",
                    f"{group!r} is not supported",
                    "An entry selects a preset of a group, as in 'method: lora'. Groups:"
                    f" {', '.join(preset_groups())}",
                )
            )
    return presets, problems


def _nest(content: Mapping[str, Any]) -> dict[str, Any]:
    """``{a.b: 1}`` → ``{a: {b: 1}}``, and ``{a: x, a.b: 1}`` → ``{a: {name: x, b: 1}}``."""
    nested: dict[str, Any] = {}
    for key, value in content.items():
        *groups, last = str(key).split(".")
        target = nested
        for group in groups:
            target[group] = target = _as_group(target.get(group))
        if last in target and (isinstance(value, dict) or isinstance(target[last], dict)):
            target[last] = {**_as_group(target[last]), **_as_group(value)}
        else:
            target[last] = value
    return nested


def _as_group(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    return {} if value is None else {"name": value}


def _drop_unknown_null_methods(root: Node, content: dict[str, Any]) -> None:
    """A run records null for methods of packages that may not be installed here."""
    method, node = content.get("method"), root.children["method"]
    if isinstance(method, dict) and isinstance(node, Node):
        content["method"] = {
            name: value
            for name, value in method.items()
            if value is not None or name in node.children
        }


def _select_presets(root: Node, content: dict[str, Any], config_dir: Path | None) -> dict[str, str]:
    """The presets that ``content`` selects: ``method: lora`` or ``method: {name: lora}``.

    A run records every setting. The presets that it was made with may not exist here, and have no
    further effect.
    """
    presets: dict[str, str] = {}
    is_recorded = all(_is_complete(root, content, group) for group in ("method", "model", "data"))
    for group in [name for name in preset_groups() if name in root.children]:
        value = content.get(group)
        if isinstance(value, Mapping):
            name = value.get("name")
            is_preset = isinstance(name, str) and name in find_presets(group, config_dir)
            if is_preset or (name is not None and not _is_complete(root, content, group)):
                presets[group] = str(name)
        elif group in content:
            del content[group]
            if value is not None and not (group == "experiment" and is_recorded):
                presets[group] = value if isinstance(value, str) else json.dumps(value)
    return presets


def _is_complete(root: Node, content: Mapping[str, Any], group: str) -> bool:
    """Whether the file has most settings of ``group``; earlier versions had fewer settings."""
    node, value = root.children[group], content.get(group)
    assert isinstance(node, Node)
    if not isinstance(value, Mapping) or "name" not in value:
        return False
    return 2 * len(node.children.keys() & value.keys()) > len(node.children)


def _find_problems(
    path: Path,
    command: str,
    lines: YamlLines,
    content: dict[str, Any],
    presets: Mapping[str, str],
    explicit: Mapping[str, Any],
    config_dir: Path | None,
) -> list[Problem]:
    def locate(setting: str) -> str:
        return f"{lines.location(setting)}: {setting}"

    problems = []
    for group, preset in presets.items():
        available = {group: list(find_presets(group, config_dir))}
        problems += [
            Problem(locate(group), problem.what, problem.hint)
            for problem in validate_override("train", f"{group}={preset}", preset, available)
        ]
    problems += validate_file(command, ConfigFile(str(path), "", content))
    for setting, reason in _COMMAND_LINE_ONLY.items():
        if _get(content, setting) not in (None, False) and setting not in explicit:
            problems.append(
                Problem(
                    locate(setting),
                    f"can only be set on the command line, because {reason}",
                    f"Remove it from the file, and add {setting}=<value> to the command if you"
                    " need it",
                )
            )
    for setting in _iter_paths(content.get("hydra"), "hydra"):
        if setting not in _HYDRA_SETTINGS:
            hint = f"A file can set {', '.join(_HYDRA_SETTINGS)}"
            problems.append(Problem(locate(setting), "can only be set on the command line", hint))
    return problems


def _store(content: dict[str, Any]) -> str:
    """Register ``content`` as a hidden preset and return its name."""
    text = json.dumps(content, sort_keys=True, default=str)
    name = hashlib.sha256(text.encode()).hexdigest()[:12]
    ConfigStore.instance().store(group=CONFIG_GROUP, name=name, node=content, package="_global_")
    _paths_by_name[name] = tuple(_iter_paths(content, ""))
    return name


def _iter_paths(content: Any, prefix: str) -> Iterator[str]:
    """The paths of all values in nested mappings."""
    if isinstance(content, Mapping):
        for name, value in content.items():
            yield from _iter_paths(value, f"{prefix}.{name}" if prefix else str(name))
    elif prefix and not (prefix == "hydra" and content is None):
        yield prefix


def _get(content: Any, path: str) -> Any:
    for name in path.split("."):
        content = content.get(name) if isinstance(content, Mapping) else None
    return content


def _pop(content: Any, path: str) -> Any:
    *groups, last = path.split(".")
    parent = _get(content, ".".join(groups)) if groups else content
    return parent.pop(last, None) if isinstance(parent, dict) else None


def _drop_null_parents(content: dict[str, Any], path: str) -> None:
    """Remove a null group in which the command line sets ``path``."""
    names = path.split(".")
    for length in range(1, len(names)):
        parent = _get(content, ".".join(names[: length - 1])) if length > 1 else content
        if isinstance(parent, dict) and parent.get(names[length - 1], "") is None:
            del parent[names[length - 1]]
