"""``last`` and ``best``: pointers to a checkpoint in the same folder, replaced atomically.

    last -> step-250                           a relative link
    last.json {"checkpoint": "step-250"}       if the file system has no links
    last/                                      a copy, made by a tool that follows links

A pointer to anything but a ``step-<number>`` in the same folder is an error.
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

__all__ = [
    "format_step_name",
    "list_steps",
    "parse_step_name",
    "read_pointer",
    "remove_pointer",
    "swap_pointer",
]

_POINTER_HINT = (
    "Restore it from a copy. eval, predict, merge and export open another with checkpoint=<step>"
)
_STEP_PATTERN = re.compile(r"step-(0|[1-9][0-9]{0,17})", re.ASCII)


def format_step_name(step: int) -> str:
    return f"step-{step}"


def parse_step_name(name: str) -> int | None:
    """The step in the name of a checkpoint folder; None for any other name."""
    match = _STEP_PATTERN.fullmatch(name)
    return int(match[1]) if match else None


def list_steps(folder: Path) -> list[int]:
    """The steps with a checkpoint folder, ascending, intact or damaged. Links are ignored."""
    try:
        folders = [entry for entry in folder.iterdir() if entry.is_dir() and not entry.is_symlink()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(step for entry in folders if (step := parse_step_name(entry.name)) is not None)


def read_pointer(folder: Path, name: str) -> int | None:
    """The step that the pointer ``name`` names; None if there is no such pointer.

    Raises DataError for an invalid pointer. The checkpoint itself is not checked.
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
        raise DataError(
            f"points to {target_name!r}, which is not a checkpoint",
            where=str(link),
            hint=_POINTER_HINT,
        )
    return step


def swap_pointer(folder: Path, name: str, step: int) -> None:
    """Atomically make the pointer ``name`` point to ``step``."""
    link, file = folder / name, folder / f"{name}.json"
    if link.is_dir() and not link.is_symlink():
        _write_pointer_file(folder, name, step)  # a link cannot replace a folder
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


def remove_pointer(folder: Path, name: str) -> None:
    """Remove the pointer ``name`` in every form that it can have."""
    for pointer in (folder / name, folder / f"{name}.json"):
        if os.path.lexists(pointer):
            failpoint(f"remove {pointer.name}")
            remove_path(pointer)
    fsync_folder(folder)


def _write_pointer_file(folder: Path, name: str, step: int) -> None:
    atomic_write_json(folder / f"{name}.json", {"checkpoint": format_step_name(step)})


def _find_copied_step(folder: Path, copy: Path) -> int | None:
    """The step of which the folder ``copy`` is a copy: both have the same files.json."""
    try:
        listing = read_regular_bytes(copy / FILES_JSON)
        for step in list_steps(folder):
            if read_regular_bytes(folder / format_step_name(step) / FILES_JSON) == listing:
                return step
    except DataError as error:
        raise DataError(f"cannot be read ({error})", where=str(copy), hint=_POINTER_HINT) from error
    raise DataError(
        "is not a copy of a checkpoint in the same folder", where=str(copy), hint=_POINTER_HINT
    )
