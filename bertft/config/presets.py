"""The presets: YAML files by group and name, with their one-line descriptions."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import yaml

from bertft.config.registry import conf_dir, plugin_preset_folders
from bertft.utils.messages import Problem, display_path, usage_error

__all__ = [
    "decode_yaml",
    "default_presets",
    "find_presets",
    "preset_groups",
    "preset_summary",
    "preset_value",
    "read_preset",
]


def preset_groups() -> list[str]:
    """The groups of presets: data, experiment, method, model, trainer."""
    return sorted(path.name for path in conf_dir().iterdir() if path.is_dir())


@functools.cache
def default_presets() -> dict[str, str | None]:
    """Group → the preset that train uses if none is selected; None for no preset."""
    content = yaml.safe_load((conf_dir() / "train.yaml").read_text(encoding="utf-8"))
    entries = [entry for entry in content["defaults"] if isinstance(entry, dict)]
    return {name: preset for entry in entries for name, preset in entry.items()}


def find_presets(group: str, extra: Path | None = None) -> dict[str, Path]:
    """Preset name → file for a group: presets of bertft, of other packages and of ``extra``."""
    folders = [
        root / group for root in (extra, *plugin_preset_folders(), conf_dir()) if root is not None
    ]
    files = [file for folder in folders for file in folder.glob("*.yaml")]
    return {file.stem: file for file in sorted(files, key=lambda file: file.stem)}


def preset_value(group: str, preset: object, name: str) -> Any:
    """The value of ``name`` in a preset of bertft or of a package; None if it has none."""
    file = find_presets(group).get(str(preset))
    content = None if file is None else yaml.safe_load(read_preset(file))
    return content.get(name) if isinstance(content, dict) else None


def read_preset(file: Path) -> str:
    """The text of a YAML file. Raises UsageError if it is not UTF-8."""
    return decode_yaml(file.read_bytes(), file)


def decode_yaml(content: bytes, file: Path) -> str:
    """The text of a YAML ``file``, without a byte order mark. UsageError if it is not UTF-8."""
    try:
        text = content.decode("utf-8-sig")
        is_text = "\0" not in text  # UTF-16 without a byte order mark is valid UTF-8
    except UnicodeDecodeError:
        is_text = False
    if not is_text:
        raise usage_error([Problem(display_path(file), "is not UTF-8", "Save it as UTF-8")])
    return text


def preset_summary(file: Path) -> str:
    """The first line of the file's opening comment, without the command after the last colon."""
    for line in read_preset(file).splitlines():
        if not line.startswith("#"):
            break
        text = line.lstrip("# ").strip()
        if text and not text.startswith("@package"):
            return text.rpartition(": bertft")[0] or text
    return ""
