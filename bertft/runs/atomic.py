"""Files that are there whole or not at all, also after a crash or a power cut.

    write:   temporary file in the same folder → fsync → rename over the final name → fsync folder

A temporary is called ``.<name>.tmp-<pid>``; what a killed writer left behind, ``clean`` removes.
Raises OSError, after the temporary is gone; ``environment`` turns that into EnvironmentFailed.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bertft.errors import EnvironmentFailed
from bertft.runs.faults import point

__all__ = [
    "advice",
    "clean",
    "environment",
    "json_text",
    "remove",
    "sync_folder",
    "sync_tree",
    "temporary",
    "write_bytes",
    "write_json",
    "write_text",
]

_TEMPORARY = re.compile(r"\.(.+)\.tmp-([0-9]+)", re.ASCII | re.DOTALL)
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP)  # some network and FUSE file systems


def write_bytes(path: Path, data: bytes) -> None:
    """Make ``path`` hold ``data``; it never holds a part of it."""
    new = temporary(path)
    try:
        point(f"create {path.name}")
        # A folder from elsewhere may hold a link of that name, which must not be written through.
        new.unlink(missing_ok=True)
        with new.open("xb") as file:
            point(f"write {path.name}")
            file.write(data)
            file.flush()
            point(f"sync {path.name}")
            os.fsync(file.fileno())
        point(f"rename {path.name}")
        os.replace(new, path)
    except BaseException:
        with suppress(OSError):
            new.unlink()
        raise
    sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """``text`` in UTF-8, line ends as they are."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """``value`` as ``json_text`` shows it."""
    write_text(path, json_text(value))


def json_text(value: Any) -> str:
    """JSON for people, in which every finite number reads back equal. NaN and ±inf become null."""
    value = _finite(value)
    text = json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # a file name that is no UTF-8 holds lone surrogates
        text = json.dumps(value, indent=1, allow_nan=False)
    return f"{text}\n"


def temporary(path: Path) -> Path:
    """The name beside ``path`` under which this process prepares it."""
    return path.with_name(f".{path.name}.tmp-{os.getpid()}")


def clean(folder: Path, name: str | None = None) -> None:
    """Remove the temporaries of processes that are gone, and this one's own, as far as possible.

    ``name``: only those under which ``name`` was prepared, in a folder that is not ours alone.
    """
    for each in sorted(folder.iterdir()):
        match = _TEMPORARY.fullmatch(each.name)
        if match and name in (None, match[1]) and not _lives(int(match[2])):
            with suppress(OSError):
                remove(each)


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with all that it holds. Links are not followed."""
    if path.is_dir() and not path.is_symlink():
        for each in sorted(path.iterdir()):
            remove(each)
        point(f"remove {path.name}")
        path.rmdir()
    else:
        point(f"remove {path.name}")
        path.unlink()


def sync_tree(folder: Path) -> None:
    """fsync every file and folder in ``folder``, and itself."""
    for each in sorted(folder.iterdir()):
        if each.is_symlink():
            continue
        if each.is_dir():
            sync_tree(each)
        elif each.is_file():
            point(f"sync {each.name}")
            # Windows flushes only what is open for writing.
            descriptor = os.open(each, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """fsync the names in ``folder``, where the system knows such a thing."""
    point(f"sync {folder.name}/")
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)


@contextmanager
def environment(path: Path) -> Iterator[None]:
    """An OSError while ``path`` is written becomes EnvironmentFailed."""
    try:
        yield
    except OSError as error:
        raise EnvironmentFailed(
            f"cannot be written ({error.strerror or error})", where=str(path), hint=advice(error)
        ) from error


def advice(error: OSError) -> str:
    """What to do about ``error``."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "Make room on the disk"
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return "Make the folder writable"
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE):
        return "Was the folder moved, removed or unmounted?"
    return "Look after the disk"


def _lives(pid: int) -> bool:
    """Whether another process ``pid`` may be writing. Windows cannot be asked without harm."""
    if pid == os.getpid():
        return False
    if os.name == "nt":
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return value
