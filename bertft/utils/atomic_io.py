"""Atomic writes: a file has its old or its new content, also after a crash or a power failure.

    temporary file in the same folder → fsync → rename to the final name → fsync of the folder

A temporary file is called ``.<name>.tmp-<pid>``. ``remove_stale_temporaries`` removes those of
killed processes. The functions raise OSError after they have removed the temporary file;
``convert_write_errors`` converts it to a SystemResourceError.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO

from bertft.errors import BertftError, SystemResourceError
from bertft.utils.failpoints import failpoint
from bertft.utils.system_errors import OPEN_FILES_HINT, find_os_error

__all__ = [
    "advise_on_os_error",
    "atomic_open",
    "atomic_write_bytes",
    "atomic_write_json",
    "atomic_write_named",
    "atomic_write_text",
    "convert_write_errors",
    "fsync_folder",
    "fsync_tree",
    "remove_path",
    "remove_stale_temporaries",
    "temporary_path",
    "to_json_text",
]


_TEMPORARY_NAME = re.compile(r"\.(.+)\.tmp-([0-9]+)", re.ASCII | re.DOTALL)
_FSYNC_UNSUPPORTED = (errno.EINVAL, errno.ENOTSUP)  # some network and FUSE file systems


@contextmanager
def atomic_open(path: Path, mode: str = "x", encoding: str | None = "utf-8") -> Iterator[IO[Any]]:
    """A file object for the new content of ``path``, which changes when the block ends.

    An exception in the block leaves ``path`` as it was. ``mode`` is "x" or "xb".
    """
    temporary_file = temporary_path(path)
    with _removed_on_error(temporary_file):
        failpoint(f"create {path.name}")
        # A folder from somebody else may contain a link of that name, which must not be followed.
        temporary_file.unlink(missing_ok=True)
        with temporary_file.open(mode, encoding=encoding) as file:
            failpoint(f"write {path.name}")
            yield file
            file.flush()
            failpoint(f"sync {path.name}")
            os.fsync(file.fileno())
        failpoint(f"rename {path.name}")
        os.replace(temporary_file, path)
    fsync_folder(path.parent)


def atomic_write_named(folder: Path, prefix: str, write: Callable[[BinaryIO], str]) -> Path:
    """Add a file to ``folder``; ``write`` fills it and returns its name with a checksum.

    Several processes, also of different machines, can write to one folder at the same time. There
    are no failpoints and no fsync: such files belong to a cache, not to a run, and the checksum
    detects a file that a power failure truncates.
    """
    temporary_file = temporary_path(folder / f"{prefix}-{secrets.token_hex(4)}")
    with _removed_on_error(temporary_file):
        with temporary_file.open("x+b") as file:
            path = folder / write(file)
        os.replace(temporary_file, path)
    return path


@contextmanager
def _removed_on_error(temporary_file: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with suppress(OSError):
            temporary_file.unlink()
        raise


def atomic_write_bytes(path: Path, data: bytes) -> None:
    """Replace the content of ``path`` with ``data``."""
    with atomic_open(path, "xb", encoding=None) as file:
        file.write(data)


def atomic_write_text(path: Path, text: str) -> None:
    """Replace the content of ``path`` with ``text`` in UTF-8; line ends are not converted."""
    atomic_write_bytes(path, text.encode("utf-8"))


def atomic_write_json(path: Path, value: Any) -> None:
    """Replace the content of ``path`` with ``value`` as JSON (``to_json_text``)."""
    atomic_write_text(path, to_json_text(value))


def to_json_text(value: Any) -> str:
    """Indented JSON from which every finite number is read back equal. NaN and ±inf become null."""
    value = _replace_non_finite(value)
    text = json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # a file name that is not valid UTF-8 has lone surrogates
        text = json.dumps(value, indent=1, allow_nan=False)
    return f"{text}\n"


def temporary_path(path: Path) -> Path:
    """The temporary file of this process for ``path``, in the same folder."""
    return path.with_name(f".{path.name}.tmp-{os.getpid()}")


def remove_stale_temporaries(
    folder: Path, name: str | None = None, min_age: float | None = None
) -> None:
    """Remove the temporary files of ended processes and of this one, if possible.

    Args:
        name: only those of ``name``, in a folder that also has files of others.
        min_age: seconds since the last write, below which a file stays, in a folder to which other
            machines also write: their processes are not known here.
    """
    for entry in sorted(folder.iterdir()):
        match = _TEMPORARY_NAME.fullmatch(entry.name)
        if match and name in (None, match[1]) and not _is_running(int(match[2])):
            with suppress(OSError):
                if min_age is None or time.time() - entry.lstat().st_mtime > min_age:
                    remove_path(entry)


def remove_path(path: Path) -> None:
    """Remove a file, a link, or a folder with its content. Links are not followed."""
    if path.is_dir() and not path.is_symlink():
        for entry in sorted(path.iterdir()):
            remove_path(entry)
        failpoint(f"remove {path.name}")
        path.rmdir()
    else:
        failpoint(f"remove {path.name}")
        path.unlink()


def fsync_tree(folder: Path) -> None:
    """fsync ``folder`` and every file and folder in it."""
    for entry in sorted(folder.iterdir()):
        if entry.is_symlink():
            continue
        if entry.is_dir():
            fsync_tree(entry)
        elif entry.is_file():
            failpoint(f"sync {entry.name}")
            # Windows flushes only files that are open for writing.
            descriptor = os.open(entry, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
    fsync_folder(folder)


def fsync_folder(folder: Path) -> None:
    """fsync the entries of ``folder``, where the system supports it."""
    failpoint(f"sync {folder.name}/")
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _FSYNC_UNSUPPORTED:
            raise
    finally:
        os.close(descriptor)


@contextmanager
def convert_write_errors(path: Path, hint: str | None = None) -> Iterator[None]:
    """Convert an OSError, or one that a Rust library reports as text, to SystemResourceError.

    ``hint``: what the user can do; None: the hint depends on the error.
    """
    try:
        yield
    except BertftError:
        raise
    except Exception as error:
        os_error = find_os_error(error)
        if os_error is None:
            raise
        raise SystemResourceError(
            f"cannot be written ({os_error.strerror or os_error})",
            where=str(path),
            hint=hint or advise_on_os_error(os_error),
        ) from error


def advise_on_os_error(error: OSError) -> str:
    """A hint on how to fix ``error``."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "Make room on the disk"
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return "Make the folder writable"
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE):
        return "Check whether the folder was moved, removed or unmounted"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return OPEN_FILES_HINT
    return "Check the disk"


def _is_running(pid: int) -> bool:
    """Whether another process ``pid`` may be writing. On Windows, os.kill would end it."""
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


def _replace_non_finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _replace_non_finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_replace_non_finite(item) for item in value]
    return value
