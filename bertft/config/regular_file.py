"""Open regular files only: nothing that a folder from elsewhere holds can block or be endless.

A named pipe in place of a file waits for a writer that never comes, a device may deliver bytes
without end. Whatever is read from a run, a model or a cache folder is opened here, or checked here
before a library opens it by its path.
"""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

from bertft.errors import DataError

__all__ = [
    "check_regular_file", "file_kind", "open_regular_file", "read_regular_bytes", "read_regular_text", "unreadable",
]  # fmt: skip

_FILE_KINDS = (
    (stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a named pipe"), (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"),
)  # fmt: skip
_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def file_kind(mode: int) -> str | None:
    """What an entry with ``mode`` (of ``os.stat``) is; None for a regular file."""
    if stat.S_ISREG(mode):
        return None
    return next((name for test, name in _FILE_KINDS if test(mode)), "a special file")


def unreadable(error: OSError | str, where: object) -> DataError:
    """The error for a file or folder that is there and cannot be read; ``error`` says why."""
    why = error if isinstance(error, str) else error.strerror or error
    return DataError(f"cannot be read ({why})", where=str(where))


def check_regular_file(path: Path) -> None:
    """OSError unless ``path`` is a regular file, or a link to one."""
    try:
        kind = file_kind(os.stat(path).st_mode)
    except ValueError as error:  # a name with a NUL byte
        raise OSError(errno.EINVAL, str(error), str(path)) from None
    if kind is not None:
        raise OSError(errno.EINVAL, f"it is {kind}, not a regular file", str(path))


def open_regular_file(path: Path) -> BufferedReader:
    """``path`` for reading, without ever waiting. OSError unless it is a regular file."""
    check_regular_file(path)  # opening a device may already have an effect
    descriptor = os.open(path, _OPEN_FLAGS)
    try:
        kind = file_kind(os.fstat(descriptor).st_mode)
        if kind is not None:
            raise OSError(errno.EINVAL, f"it is {kind}, not a regular file", str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular_bytes(path: Path, max_bytes: int = 1 << 28) -> bytes:
    """The content of ``path``. DataError if it is missing, not a regular file, or too large."""
    try:
        with open_regular_file(path) as file:
            content = file.read(max_bytes + 1)
    except FileNotFoundError:
        raise DataError("is missing", where=str(path)) from None
    except OSError as error:
        raise unreadable(error, path) from error
    if len(content) > max_bytes:
        raise DataError(f"is larger than {max_bytes:,} bytes", where=str(path), hint="Is it damaged?")
    return content


def read_regular_text(path: Path, max_bytes: int = 1 << 28) -> str:
    """The UTF-8 text of ``path``. DataError as ``read_regular_bytes``, and if it is not UTF-8."""
    try:
        return read_regular_bytes(path, max_bytes).decode("utf-8")
    except UnicodeDecodeError:
        raise DataError(
            "cannot be read (not UTF-8)", where=str(path), hint="Was it edited or cut short?"
        ) from None
