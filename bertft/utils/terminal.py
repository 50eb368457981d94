"""Output to a terminal: robust streams, and text without control characters.

ESC sequences in a label or file name could clear or retitle a terminal, and direction marks could
make a text look like another one. They are printed as an escape (``\\x1b``). Line ends and tabs
stay.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import TextIO

from bertft.errors import limit_length

__all__ = [
    "clears_status",
    "escape_controls",
    "is_output_closed",
    "log_status",
    "log_warnings",
    "prepare_streams",
    "print_escaped",
    "print_warning",
    "set_before_write",
    "supports_unicode",
]


_warning_logger: ContextVar[logging.Logger | None] = ContextVar("warning_logger", default=None)


def print_warning(message: str) -> None:
    """Print ``message``, shortened, to stderr, or log it inside ``log_warnings``."""
    logger = _warning_logger.get()
    if logger is not None:
        logger.warning(limit_length(message))
    else:
        with _interrupt_status():
            print_escaped(f"warning: {limit_length(message)}", stderr=True)


@contextlib.contextmanager
def log_warnings(logger: logging.Logger) -> Iterator[None]:
    """Log warnings with ``logger`` instead of printing them, for programs that call bertft."""
    token = _warning_logger.set(logger)
    try:
        yield
    finally:
        _warning_logger.reset(token)


def log_status(text: str) -> None:
    """Log what the program does inside ``log_warnings``; ignore it elsewhere."""
    if (logger := _warning_logger.get()) is not None:
        logger.info(text)


def prepare_streams() -> None:
    """Make the standard streams safe to use, also if they are closed.

    Streams that a caller replaced are not changed.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free descriptor, which is this one
    if sys.stdin is None:
        sys.stdin = _ClosedInput()
    if sys.stdout is None or sys.stdout is sys.__stdout__:
        sys.stdout = sys.__stdout__ = _wrap_output(sys.stdout, 1)  # type: ignore[misc]
    if sys.stderr is None or sys.stderr is sys.__stderr__:
        sys.stderr = sys.__stderr__ = _wrap_output(sys.stderr, 2)  # type: ignore[misc]


def supports_unicode(stream: TextIO) -> bool:
    """Whether ``stream`` can write every character."""
    return (stream.encoding or "utf-8").lower().replace("_", "-").startswith("utf")


def is_output_closed(stream: TextIO) -> bool:
    """Whether ``stream`` is a closed pipe, or was closed from the start."""
    return isinstance(stream, _Output) and stream.reader_closed


_before_write: Callable[[], None] | None = None
_around_warning: Callable[[], contextlib.AbstractContextManager[None]] | None = None


def set_before_write(
    function: Callable[[], None] | None,
    around_warning: Callable[[], contextlib.AbstractContextManager[None]] | None = None,
) -> None:
    """Call ``function`` before each write to a standard stream of the program.

    A warning is printed inside the context ``around_warning``.
    """
    global _before_write, _around_warning
    _before_write, _around_warning = function, around_warning


def clears_status(stream: TextIO) -> bool:
    """Whether writes to ``stream`` call the function of ``set_before_write``."""
    return isinstance(stream, _Output)


def _interrupt_status() -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext() if _around_warning is None else _around_warning()


class _Output(io.TextIOWrapper):
    """Text output to a file descriptor; discarded after the reader of a pipe has closed it."""

    reader_closed = False

    def write(self, text: str, /) -> int:
        if _before_write is not None:
            _before_write()
        try:
            return super().write(text)
        except BrokenPipeError:
            return self._discard(len(text))

    def flush(self) -> None:
        try:
            super().flush()
        except BrokenPipeError:
            self._discard(0)

    def _discard(self, count: int) -> int:
        self.reader_closed = True
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.fileno())
        os.close(null)
        return count


class _ClosedInput(io.TextIOWrapper):
    """Empty standard input, for a process that was started without one."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8")


def _wrap_output(stream: TextIO | None, descriptor: int) -> _Output:
    if not isinstance(stream, io.TextIOWrapper):
        output = _Output(open(descriptor, "wb", closefd=False), encoding="utf-8")  # noqa: SIM115
        output.reader_closed = True
        return output
    line_buffering, encoding = stream.line_buffering, stream.encoding
    write_through = stream.write_through  # PYTHONUNBUFFERED=1
    stream.flush()
    return _Output(
        stream.detach(),
        encoding=encoding,
        errors="backslashreplace",
        line_buffering=line_buffering,
        write_through=write_through,
    )


# C0 and C1 controls, DEL, line and paragraph separators, marks of direction, lone surrogates.
_CONTROL_CHARACTERS = re.compile(
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff]"
)


def escape_controls(text: str) -> str:
    """``text`` with control characters escaped."""
    return _CONTROL_CHARACTERS.sub(_escape_match, text)


def print_escaped(text: object, *, stderr: bool = False) -> None:
    """Print a line that may contain text from a file, with control characters escaped."""
    print(escape_controls(str(text)), file=sys.stderr if stderr else sys.stdout)


def _escape_match(match: re.Match[str]) -> str:
    number = ord(match[0])
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"
