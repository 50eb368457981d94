"""Errors of the system that reach the top of the program, as errors that say what to do.

A path that leads nowhere is wrong use (status 2); a full disk, exhausted memory or a device that
fails is the environment (status 4). ``explained`` returns None for whatever is a bug of ours.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Sequence

from bertft.errors import BertftError, EnvironmentFailed, UsageError

__all__ = ["explained", "is_out_of_memory", "system_error"]

_WRONG_PATH = (
    errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG,
    errno.EINVAL, errno.ENOTEMPTY, errno.ENXIO, errno.ESPIPE,
)  # fmt: skip
_RUST = re.compile(r"\(os error ([0-9]{1,5})\)|\bOs \{ code: ([0-9]{1,5})", re.ASCII)
# What the allocators and loaders of libraries say where Python would raise MemoryError.
_NO_MEMORY = ("allocate memory", "can't start new thread", "failed to map segment", "bad_alloc")


def explained(error: Exception, words: Sequence[str]) -> BertftError | None:
    """``error`` as one of ours; ``words`` are the settings given, one of which may name the path.

    None if the system did not cause it.
    """
    if is_out_of_memory(error):
        amount = re.search(r"tried to allocate ([\d.]+ \w+)", str(error), re.IGNORECASE)
        return EnvironmentFailed(
            f"out of memory: {amount[1]} could not be allocated" if amount else "out of memory",
            hint="Lower trainer.micro_batch, data.max_length or trainer.threads, or raise the"
            " limit on memory",
        )  # fmt: skip
    of_system = system_error(error)
    if of_system is not None:
        return _of_system_call(of_system, words)
    if isinstance(error, RuntimeError) and "home directory" in str(error):
        given = next((word for word in words if "=~" in word), None)
        return UsageError(
            "there is no such user, or no home directory", where=given, hint="Write the path out"
        )
    if isinstance(error, ValueError) and "embedded null" in str(error):
        given = next((word for word in words if "\0" in word), None)
        return UsageError("a path cannot contain the character NUL", where=given)
    if isinstance(error, UnicodeEncodeError) and "surrogates" in error.reason:
        return UsageError(
            f"{error.object[max(0, error.start - 40) : error.end + 40]!r} is not valid UTF-8",
            hint="Rename the file or folder",
        )
    return None


def system_error(error: BaseException) -> OSError | None:
    """The OSError that ``error`` is, or that a library written in Rust reports as text."""
    if isinstance(error, OSError):
        return error
    match = _RUST.search(str(error))
    if match is None:
        return None
    number = int(match[1] or match[2])
    return OSError(number, os.strerror(number))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ended, of the machine or an accelerator, in any library."""
    # torch has a type of its own for an accelerator's memory, and none for the machine's.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error)
    by_library = isinstance(error, (RuntimeError, ImportError, OSError))
    return by_library and any(part in text for part in _NO_MEMORY)


def _of_system_call(error: OSError, words: Sequence[str]) -> BertftError:
    what = os.strerror(error.errno).lower() if error.errno else str(error)
    if error.filename is None and error.errno == errno.ENOENT and not _has_current_directory():
        return EnvironmentFailed(
            "the current directory no longer exists", hint="Change to one that does"
        )
    path = None if error.filename is None else os.fspath(error.filename)
    path = os.fsdecode(path) if isinstance(path, bytes) else path
    where = _setting_of(path, words) or path
    if error.errno in _WRONG_PATH:
        return UsageError(what, where=where, hint="Check the path")
    return EnvironmentFailed(
        what, where=where, hint="Free space, or choose another place with hydra.run.dir=<folder>"
    )


def _setting_of(path: str | None, words: Sequence[str]) -> str | None:
    """The word that gave ``path``, or a folder above it."""
    for word in words:
        value = word.partition("=")[2].strip("'\"")
        if path and value and (path == value or path.startswith(f"{value.rstrip('/')}/")):
            return word
    return None


def _has_current_directory() -> bool:
    try:
        os.getcwd()
    except OSError:
        return False
    return True
