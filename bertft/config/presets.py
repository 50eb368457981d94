"""Where the YAML files are, and what each of them says it is."""

from __future__ import annotations

from pathlib import Path

import bertft
from bertft.config.registry import plugin_preset_folders

__all__ = ["conf_dir", "find_presets", "preset_groups", "preset_summary"]


def conf_dir() -> Path:
    """``bertft/conf`` of an installed package, else ``conf`` of the checkout."""
    package = Path(bertft.__file__).parent
    packaged = package / "conf"
    return packaged if packaged.is_dir() else package.parent / "conf"


def preset_groups() -> list[str]:
    """The groups of presets: data, experiment, method, model, trainer."""
    return sorted(path.name for path in conf_dir().iterdir() if path.is_dir())


def find_presets(group: str, extra: Path | None = None) -> dict[str, Path]:
    """Preset name → file, of a group: bertft's own, those of other packages and of ``extra``."""
    folders = [
        root / group for root in (extra, *plugin_preset_folders(), conf_dir()) if root is not None
    ]
    files = [file for folder in folders for file in folder.glob("*.yaml")]
    return {file.stem: file for file in sorted(files, key=lambda file: file.stem)}


def preset_summary(file: Path) -> str:
    """What the file's opening comment says, without the command that follows the last colon."""
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        text = line.lstrip("# ").strip()
        if text and not text.startswith("@package"):
            return text.rpartition(": bertft")[0] or text
    return ""
