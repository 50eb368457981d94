"""Is the file there that a setting names? Told before anything slow is imported."""

from __future__ import annotations

from pathlib import Path

from bertft.config.messages import Problem, nearest, suggestion

__all__ = ["missing_file"]


def missing_file(name: str, setting: str) -> Problem | None:
    """What is wrong with the file ``name``, with the nearest one of its folder; None if nothing."""
    path, where = Path(name).expanduser(), f"{setting}={name}"
    if path.is_file():
        return None
    if name.startswith("[") or ("," in name and all(map(_is_file, name.split(",")))):
        several = name.strip("[]").replace(" ", "")
        sweep = f", or compare them in a sweep: -m {setting}={several}"
        return Problem(
            where, "several files, where one is read",
            f"Join them into one file{sweep if setting.startswith('data.') else ''}",
        )  # fmt: skip
    if path.is_dir():
        return Problem(where, "is a folder, not a file", _nearest(path.name, path))
    if path.exists():
        pipe = "input=- reads JSON Lines from standard input" if setting == "input" else None
        return Problem(
            where, "is a pipe or a device, and not a file",
            f"Write its content to a file{f', or {pipe}' if pipe else ''}",
        )  # fmt: skip
    if path.parent.is_dir():
        return Problem(where, "there is no such file", _nearest(path.name, path.parent))
    return Problem(where, f"there is no folder {path.parent}", f"Paths are taken from {Path.cwd()}")


def _is_file(name: str) -> bool:
    return Path(name.strip()).expanduser().is_file()


def _nearest(name: str, folder: Path) -> str:
    """The file most like ``name``, else those of its kind."""
    files = sorted(each.name for each in folder.iterdir() if each.is_file())
    alike = [each for each in files if Path(each).suffix == Path(name).suffix]
    return suggestion(name, files if nearest(name, files) else alike)
