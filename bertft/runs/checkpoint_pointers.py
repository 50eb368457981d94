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

from bertft.errors import DataError
from bertft.runs.files_json import FILES_JSON
from bertft.utils.atomic_io import atomic_write_json, fsync_folder, remove_path, temporary_path
from bertft.utils.failpoints import failpoint
from bertft.utils.safe_files import read_json_object, read_regular_bytes

__all__ = ["format_step_name", "list_steps", "parse_step_name", "read_pointer", "swap_pointer"]

_STEP_PATTERN = re.compile(r"step-(0|[1-9][0-9]{0,17})", re.ASCII)


def format_step_name(step: int) -> str:
    return f"step-{step}"


def parse_step_name(name: str) -> int | None:
    """The step of a checkpoint's name; None if it is not the name of one."""
    match = _STEP_PATTERN.fullmatch(name)
    return int(match[1]) if match else None


def list_steps(folder: Path) -> list[int]:
    """The steps in ``folder``, ascending, whole or not. Links are left out."""
    try:
        folders = [entry for entry in folder.iterdir() if entry.is_dir() and not entry.is_symlink()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(step for each in folders if (step := parse_step_name(each.name)) is not None)


def read_pointer(folder: Path, name: str) -> int | None:
    """The step that ``name`` points at; None if there is no such pointer. DataError if it is bad.

    Whether there is such a checkpoint is not asked.
    """
    link, file = folder / name, folder / f"{name}.json"
    if link.is_symlink():
        target_name: object = os.readlink(link)
    elif file.exists() or file.is_symlink():
        link, target_name = file, read_json_object(file).get("checkpoint")
    elif link.is_dir():
        return _find_copied_step(folder, link)
    else:
        return None
    step = parse_step_name(target_name) if isinstance(target_name, str) else None
    if step is None:
        raise DataError(f"points at {target_name!r}, which is no checkpoint", where=str(link))
    return step


def swap_pointer(folder: Path, name: str, step: int) -> None:
    """Let ``name`` point at ``step``: at every moment it points where it did, or there."""
    link, file = folder / name, folder / f"{name}.json"
    if link.is_dir() and not link.is_symlink():
        _write_pointer_file(
            folder, name, step
        )  # no link can be swapped in while a folder lies there
        remove_path(link)
    temporary_link = temporary_path(link)
    try:
        with suppress(FileNotFoundError):
            temporary_link.unlink()
        failpoint(f"link {name}")
        os.symlink(format_step_name(step), temporary_link, target_is_directory=True)
        failpoint(f"rename {name}")
        os.replace(temporary_link, link)
    except (OSError, NotImplementedError):
        with suppress(OSError):
            temporary_link.unlink()
        _write_pointer_file(folder, name, step)
        outdated = link
    else:
        fsync_folder(folder)
        outdated = file
    if os.path.lexists(outdated):
        remove_path(outdated)
        fsync_folder(folder)


def _write_pointer_file(folder: Path, name: str, step: int) -> None:
    atomic_write_json(folder / f"{name}.json", {"checkpoint": format_step_name(step)})


def _find_copied_step(folder: Path, copy: Path) -> int | None:
    """The step whose listing the folder ``copy`` holds too."""
    try:
        listing = read_regular_bytes(copy / FILES_JSON)
        for step in list_steps(folder):
            if read_regular_bytes(folder / format_step_name(step) / FILES_JSON) == listing:
                return step
    except DataError as error:
        raise DataError(f"cannot be followed ({error})", where=str(copy)) from error
    raise DataError("is no copy of a checkpoint beside it", where=str(copy))
