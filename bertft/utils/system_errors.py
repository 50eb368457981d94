"""Convert system errors that reach ``main`` to errors with a hint.

An invalid path is wrong use (status 2). A full disk, exhausted memory or a failing device is a
system error (status 4). ``to_bertft_error`` returns None for a bug in bertft.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator, Sequence

from bertft.errors import BertftError, SystemResourceError, UsageError
from bertft.utils.messages import first_line

__all__ = [
    "OPEN_FILES_HINT",
    "convert_system_errors",
    "find_os_error",
    "is_out_of_memory",
    "to_bertft_error",
]

OPEN_FILES_HINT = "Raise the limit on open files (ulimit -n)"

_PATH_ERRNOS = (
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.EINVAL,
    errno.ENOTEMPTY,
    errno.ENXIO,
    errno.ESPIPE,
)
_RUST_OS_ERROR = re.compile(r"\(os error ([0-9]{1,5})\)|\bOs \{ code: ([0-9]{1,5})", re.ASCII)
# Messages of the allocators and loaders of libraries where Python would raise MemoryError.
_OUT_OF_MEMORY_TEXTS = (
    "allocate memory",
    "can't start new thread",
    "failed to map segment",
    "bad_alloc",
)
# Of these, those that can have another cause than memory: the problem and what to do.
_LIMIT_TEXTS = {
    "can't start new thread": (
        "a thread could not be started",
        "Raise the limit on processes (ulimit -u, or that of the container) or on memory",
    ),
    "failed to map segment": (
        "a library could not be loaded",
        "Raise the limit on memory, or check that the folder of the library is not mounted noexec",
    ),
}


@contextlib.contextmanager
def convert_system_errors(arguments: Sequence[str] = ()) -> Iterator[None]:
    """Raise system errors as a BertftError, for programs that call bertft. Also a decorator."""
    try:
        yield
    except BertftError:
        raise
    except Exception as error:
        converted = to_bertft_error(error, arguments)
        if converted is None:
            raise
        raise converted from error


def to_bertft_error(error: Exception, arguments: Sequence[str]) -> BertftError | None:
    """``error`` as a BertftError; None if it is not a system error.

    ``arguments`` are the command and its arguments, one of which may contain the path.
    """
    for message, (what, hint) in _LIMIT_TEXTS.items():
        if isinstance(error, (RuntimeError, ImportError, OSError)) and message in str(error):
            return SystemResourceError(f"{what} ({first_line(str(error))})", hint=hint)
    if is_out_of_memory(error):
        amount = re.search(r"tried to allocate ([\d.]+ \w+)", str(error), re.IGNORECASE)
        return SystemResourceError(
            f"out of memory: {amount[1]} could not be allocated" if amount else "out of memory",
            hint=_advise_on_memory(error, arguments),
        )
    os_error = find_os_error(error)
    if os_error is not None:
        return _from_os_error(os_error, arguments)
    if isinstance(error, RuntimeError) and "home directory" in str(error):
        argument = next((word for word in arguments if "=~" in word), None)
        return UsageError(
            "there is no such user or home directory", where=argument, hint="Use the full path"
        )
    if isinstance(error, ValueError) and "embedded null" in str(error):
        argument = next((word for word in arguments if "\0" in word), None)
        return UsageError(
            "a path cannot contain the character NUL", where=argument, hint="Check the path"
        )
    if isinstance(error, UnicodeEncodeError) and "surrogates" in error.reason:
        return UsageError(
            f"{error.object[max(0, error.start - 40) : error.end + 40]!r} is not valid UTF-8",
            hint="Rename the file or folder",
        )
    return None


def find_os_error(error: BaseException) -> OSError | None:
    """``error`` if it is an OSError, or the OSError that a Rust library reports as text."""
    if isinstance(error, OSError):
        return error
    match = _RUST_OS_ERROR.search(str(error))
    if match is None:
        return None
    number = int(match[1] or match[2])
    return OSError(number, os.strerror(number))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the machine or an accelerator ran out of memory, in any library."""
    # torch has an exception for the memory of an accelerator, and none for that of the machine.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error)
    by_library = isinstance(error, (RuntimeError, ImportError, OSError))
    return by_library and any(message in text for message in _OUT_OF_MEMORY_TEXTS)


def _from_os_error(error: OSError, words: Sequence[str]) -> BertftError:
    reason = os.strerror(error.errno).lower() if error.errno else str(error)
    if error.filename is None and error.errno == errno.ENOENT and not _has_current_directory():
        return SystemResourceError(
            "the current directory no longer exists", hint="Change to an existing directory"
        )
    path = None if error.filename is None else os.fspath(error.filename)
    path = os.fsdecode(path) if isinstance(path, bytes) else path
    where = _find_setting(path, words) or path
    if error.errno in _PATH_ERRNOS:
        return UsageError(reason, where=where, hint="Check the path")
    return SystemResourceError(reason, where=where, hint=_advise_on_os_error(error, words))


def _advise_on_memory(error: Exception, words: Sequence[str]) -> str:
    """What to do if memory ran out; only ``train`` has settings that lower its need of memory."""
    is_accelerator = type(error).__name__ == "OutOfMemoryError"
    if words[:1] and words[0] in ("train", "tune", "cross_validate"):
        if is_accelerator:
            return (
                "Micro-batches are already reduced automatically: lower data.max_length, set"
                " trainer.gradient_checkpointing=true, free memory of the device, or choose a"
                " smaller model"
            )
        return (
            "Lower trainer.micro_batch, data.max_length or trainer.threads, set"
            " trainer.gradient_checkpointing=true, or raise the limit on memory"
        )
    if is_accelerator:
        return f"Free memory of the device, or use {'device=cpu' if words else 'the device cpu'}"
    return "Free memory, or raise the limit on memory"


def _advise_on_os_error(error: OSError, words: Sequence[str]) -> str | None:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        other_folder = ", or set another folder with hydra.run.dir=<folder>"
        return f"Free space on the disk{other_folder if list(words[:1]) == ['train'] else ''}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "Check the permissions of the file"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return OPEN_FILES_HINT
    return None


def _find_setting(path: str | None, words: Sequence[str]) -> str | None:
    """The argument with the value ``path`` or a folder above it."""
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
