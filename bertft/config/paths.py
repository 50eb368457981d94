"""Is the file there that a setting names? Told before anything slow is imported."""

from __future__ import annotations

from pathlib import Path

from bertft.config.messages import Problem, closest_name, suggest

__all__ = ["missing_file_problem"]


def missing_file_problem(name: str, setting: str) -> Problem | None:
    """What is wrong with the file ``name``, with the nearest one of its folder; None if nothing."""
    path, where = Path(name).expanduser(), f"{setting}={name}"
    if path.is_file():
        return None
    if name.startswith("[") or ("," in name and all(map(_names_file, name.split(",")))):
        file_list = name.strip("[]").replace(" ", "")
        sweep_hint = f", or compare them in a sweep: -m {setting}={file_list}"
        return Problem(
            where, "several files, where one is read",
            f"Join them into one file{sweep_hint if setting.startswith('data.') else ''}",
        )  # fmt: skip
    if path.is_dir():
        return Problem(where, "is a folder, not a file", _suggest_file(path.name, path))
    if path.exists():
        stdin_hint = "input=- reads JSON Lines from standard input" if setting == "input" else None
        return Problem(
            where, "is a pipe or a device, and not a file",
            f"Write its content to a file{f', or {stdin_hint}' if stdin_hint else ''}",
        )  # fmt: skip
    if path.parent.is_dir():
        return Problem(where, "there is no such file", _suggest_file(path.name, path.parent))
    return Problem(where, f"there is no folder {path.parent}", f"Paths are taken from {Path.cwd()}")


def _names_file(name: str) -> bool:
    return Path(name.strip()).expanduser().is_file()


def _suggest_file(name: str, folder: Path) -> str:
    """The file most like ``name``, else those of its kind."""
    files = sorted(each.name for each in folder.iterdir() if each.is_file())
    same_extension = [entry for entry in files if Path(entry).suffix == Path(name).suffix]
    return suggest(name, files if closest_name(name, files) else same_extension)
