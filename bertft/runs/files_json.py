"""``files.json``: the files of a folder, so that damage is detected before anything is loaded.

    {"files": {"adapter.safetensors": {"bytes": 1234, "sha256": "9f86..."}, ...},
     "optional": ["state.json", "state.safetensors"]}

Names are relative, with "/". Files with the stem "state" are optional: only resuming needs them,
and they are removed from older checkpoints. All other files must exist unchanged, and the folder
must not contain further files except hidden ones, which file managers create. Names that lead out
of the folder, links, and anything that is not a regular file are errors.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from bertft.errors import DataError
from bertft.utils.atomic_io import atomic_write_json
from bertft.utils.failpoints import failpoint
from bertft.utils.safe_files import DAMAGED_FILE_HINT, file_sha256, read_json_object

__all__ = [
    "FILES_JSON",
    "find_damage",
    "has_optional_files",
    "has_training_state",
    "remove_optional_files",
    "write_files_json",
]

FILES_JSON = "files.json"
_OPTIONAL_STEM = "state"
_SHA256_PATTERN = re.compile(r"[0-9a-f]{64}", re.ASCII)


def write_files_json(folder: Path) -> None:
    """Write ``files.json`` for the files in ``folder``. ValueError if there is a link."""
    files: dict[str, dict[str, Any]] = {}
    for name in sorted(_iter_file_names(folder)):
        path = folder / name
        if not stat.S_ISREG(path.lstat().st_mode):
            raise ValueError(f"{path} is not a regular file")
        if name != FILES_JSON:
            files[name] = {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
    optional = [name for name in files if PurePosixPath(name).stem == _OPTIONAL_STEM]
    atomic_write_json(folder / FILES_JSON, {"files": files, "optional": optional})


def find_damage(folder: Path) -> list[str]:
    """The problems of ``folder`` as "name: problem"; empty if it agrees with ``files.json``."""
    if folder.is_symlink():
        return [f"{folder.name}: is a link"]
    try:
        files, optional = _read_files_json(folder)
        present = set(_iter_file_names(folder))
    except DataError as error:
        return [f"{FILES_JSON}: {error.what}"]
    except OSError as error:
        return [f"{folder.name}: cannot be read ({error.strerror or error})"]
    problems = []
    for name, entry in files.items():
        problem = _file_problem(folder, name, entry)
        if problem is not None and not (problem == _MISSING and name in optional):
            problems.append(f"{name}: {problem}")
    hidden = {name for name in present if any(item.startswith(".") for item in name.split("/"))}
    unexpected = sorted(present - set(files) - hidden - {FILES_JSON})
    return [*problems, *(f"{name}: is not in {FILES_JSON}" for name in unexpected)]


def has_optional_files(folder: Path) -> bool:
    """Whether all optional files in ``files.json`` exist."""
    return all((folder / name).is_file() for name in _read_files_json(folder)[1])


def has_training_state(folder: Path) -> bool:
    """Whether ``files.json`` has optional files (the training state) and all of them exist."""
    return bool(_read_files_json(folder)[1]) and has_optional_files(folder)


def remove_optional_files(folder: Path) -> None:
    """Remove the optional files."""
    for name in _read_files_json(folder)[1]:
        if (folder / name).is_file() and not _is_behind_link(folder, name):
            failpoint(f"remove {name}")
            (folder / name).unlink()


_MISSING = "is missing"


def _file_problem(folder: Path, name: str, entry: dict[str, Any]) -> str | None:
    path = folder / name
    try:
        if _is_behind_link(folder, name):
            return "is a link, or in a folder that is a link"
        file_stat = path.lstat()
        if not stat.S_ISREG(file_stat.st_mode):
            return "is not a regular file"
        if file_stat.st_size != entry["bytes"]:
            return f"has {file_stat.st_size} bytes, not {entry['bytes']}"
        return (
            None if file_sha256(path) == entry["sha256"] else "its sha256 is not the recorded one"
        )
    except (FileNotFoundError, NotADirectoryError):
        return _MISSING
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"


def _is_behind_link(folder: Path, name: str) -> bool:
    inner = PurePosixPath(name)
    return any((folder / component).is_symlink() for component in (inner, *inner.parents[:-1]))


def _read_files_json(folder: Path) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The entries and the optional names. DataError if any of them is invalid."""
    path = folder / FILES_JSON
    if path.is_symlink():
        raise _files_json_error(path, "is a link")
    content = read_json_object(path)
    if set(content) != {"files", "optional"}:
        raise _files_json_error(path, "must have the keys files and optional")
    files, optional = content["files"], content["optional"]
    if not isinstance(files, dict) or not isinstance(optional, list):
        raise _files_json_error(path, "files must be an object, optional a list")
    for name, entry in files.items():
        if not _is_safe_relative_name(name):
            raise _files_json_error(path, f"invalid file name {name!r}")
        if not isinstance(entry, dict) or set(entry) != {"bytes", "sha256"}:
            raise _files_json_error(path, f"{name} must have bytes and sha256")
        size, digest = entry["bytes"], entry["sha256"]
        if type(size) is not int or size < 0:  # True is an int too
            raise _files_json_error(path, f"invalid number of bytes of {name}: {size!r}")
        if not isinstance(digest, str) or not _SHA256_PATTERN.fullmatch(digest):
            raise _files_json_error(path, f"invalid sha256 of {name}: {digest!r}")
    for name in optional:
        if (
            not isinstance(name, str)
            or name not in files
            or PurePosixPath(name).stem != _OPTIONAL_STEM
        ):
            raise _files_json_error(path, f"{name!r} cannot be optional")
    return files, optional


def _files_json_error(path: Path, problem: str) -> DataError:
    return DataError(problem, where=str(path), hint=DAMAGED_FILE_HINT)


def _is_safe_relative_name(name: str) -> bool:
    """Whether ``name`` is a plain relative name on every system."""
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    posix = PurePosixPath(name)
    return (
        bool(posix.parts)
        and name != FILES_JSON
        and not set(name) & {"\\", "\0"}
        and not posix.is_absolute()
        and not PureWindowsPath(name).drive
        and ".." not in posix.parts
        and str(posix) == name
    )


def _iter_file_names(folder: Path, below: str = "") -> Iterator[str]:
    """Relative names of everything but folders; links are included and not followed."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _iter_file_names(Path(entry.path), f"{below}{entry.name}/")
            else:
                yield f"{below}{entry.name}"
