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
    "check_regular", "kind_of", "open_regular", "read_regular", "read_regular_text", "unreadable",
]  # fmt: skip

_KINDS = (
    (stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a named pipe"), (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"),
)  # fmt: skip
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def kind_of(mode: int) -> str | None:
    """What an entry with ``mode`` (of ``os.stat``) is; None for a regular file."""
    if stat.S_ISREG(mode):
        return None
    return next((name for test, name in _KINDS if test(mode)), "a special file")


def unreadable(error: OSError | str, where: object) -> DataError:
    """The error for a file or folder that is there and cannot be read; ``error`` says why."""
    why = error if isinstance(error, str) else error.strerror or error
    return DataError(f"cannot be read ({why})", where=str(where))


def check_regular(path: Path) -> None:
    """OSError unless ``path`` is a regular file, or a link to one."""
    try:
        kind = kind_of(os.stat(path).st_mode)
    except ValueError as error:  # a name with a NUL byte
        raise OSError(errno.EINVAL, str(error), str(path)) from None
    if kind is not None:
        raise OSError(errno.EINVAL, f"it is {kind}, not a regular file", str(path))


def open_regular(path: Path) -> BufferedReader:
    """``path`` for reading, without ever waiting. OSError unless it is a regular file."""
    check_regular(path)  # opening a device may already have an effect
    descriptor = os.open(path, _FLAGS)
    try:
        kind = kind_of(os.fstat(descriptor).st_mode)
        if kind is not None:
            raise OSError(errno.EINVAL, f"it is {kind}, not a regular file", str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: Path, largest: int = 1 << 28) -> bytes:
    """The content of ``path``. DataError if it is missing, not a regular file, or too large."""
    try:
        with open_regular(path) as file:
            content = file.read(largest + 1)
    except FileNotFoundError:
        raise DataError("is missing", where=str(path)) from None
    except OSError as error:
        raise unreadable(error, path) from error
    if len(content) > largest:
        raise DataError(f"is larger than {largest:,} bytes", where=str(path), hint="Is it damaged?")
    return content


def read_regular_text(path: Path, largest: int = 1 << 28) -> str:
    """The UTF-8 text of ``path``. DataError as ``read_regular``, and if it is not UTF-8."""
    try:
        return read_regular(path, largest).decode("utf-8")
    except UnicodeDecodeError:
        raise DataError(
            "cannot be read (not UTF-8)", where=str(path), hint="Was it edited or cut short?"
        ) from None
