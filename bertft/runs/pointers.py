"""``last`` and ``best``: names that point at a checkpoint beside them, swapped atomically.

    last -> step-250                           a relative link
    last.json {"checkpoint": "step-250"}       where links cannot be made
    last/                                      a copy: tools that follow links leave one

A pointer that leads anywhere but to a ``step-<number>`` beside it is refused.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from bertft.config.regular_file import read_regular
from bertft.errors import DataError
from bertft.runs.atomic import remove, sync_folder, temporary, write_json
from bertft.runs.faults import point
from bertft.runs.files import FILES
from bertft.runs.json_file import read_object

__all__ = ["step_name", "step_of", "steps_in", "swap", "target"]

_STEP = re.compile(r"step-(0|[1-9][0-9]{0,17})", re.ASCII)


def step_name(step: int) -> str:
    return f"step-{step}"


def step_of(name: str) -> int | None:
    """The step of a checkpoint's name; None if it is not the name of one."""
    match = _STEP.fullmatch(name)
    return int(match[1]) if match else None


def steps_in(folder: Path) -> list[int]:
    """The steps in ``folder``, ascending, whole or not. Links are left out."""
    try:
        found = [each for each in folder.iterdir() if each.is_dir() and not each.is_symlink()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(step for each in found if (step := step_of(each.name)) is not None)


def target(folder: Path, name: str) -> int | None:
    """The step that ``name`` points at; None if there is no such pointer. DataError if it is bad.

    Whether there is such a checkpoint is not asked.
    """
    link, file = folder / name, folder / f"{name}.json"
    if link.is_symlink():
        pointed: object = os.readlink(link)
    elif file.exists() or file.is_symlink():
        link, pointed = file, read_object(file).get("checkpoint")
    elif link.is_dir():
        return _copied(folder, link)
    else:
        return None
    step = step_of(pointed) if isinstance(pointed, str) else None
    if step is None:
        raise DataError(f"points at {pointed!r}, which is no checkpoint", where=str(link))
    return step


def swap(folder: Path, name: str, step: int) -> None:
    """Let ``name`` point at ``step``: at every moment it points where it did, or there."""
    link, file = folder / name, folder / f"{name}.json"
    if link.is_dir() and not link.is_symlink():
        _point_by_file(folder, name, step)  # no link can be swapped in while a folder lies there
        remove(link)
    new = temporary(link)
    try:
        with suppress(FileNotFoundError):
            new.unlink()
        point(f"link {name}")
        os.symlink(step_name(step), new, target_is_directory=True)
        point(f"rename {name}")
        os.replace(new, link)
    except (OSError, NotImplementedError):
        with suppress(OSError):
            new.unlink()
        _point_by_file(folder, name, step)
        other = link
    else:
        sync_folder(folder)
        other = file
    if os.path.lexists(other):
        remove(other)
        sync_folder(folder)


def _point_by_file(folder: Path, name: str, step: int) -> None:
    write_json(folder / f"{name}.json", {"checkpoint": step_name(step)})


def _copied(folder: Path, copy: Path) -> int | None:
    """The step whose listing the folder ``copy`` holds too."""
    try:
        listing = read_regular(copy / FILES)
        for step in steps_in(folder):
            if read_regular(folder / step_name(step) / FILES) == listing:
                return step
    except DataError as error:
        raise DataError(f"cannot be followed ({error})", where=str(copy)) from error
    raise DataError("is no copy of a checkpoint beside it", where=str(copy))
