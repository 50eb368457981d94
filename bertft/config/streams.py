"""Standard input, output and error as a program meets them: closed, a pipe, a code page.

A reader who has gone (``bertft train | head -1``) does not end the work: what is still written
goes nowhere. A character that the stream's encoding lacks is written as an escape. A stream that
the parent process closed is opened on the null device, so that no file takes its number.
"""

from __future__ import annotations

import io
import os
import sys
from typing import TextIO

__all__ = ["supports_unicode", "prepare_streams", "is_output_closed"]


def prepare_streams() -> None:
    """Make ``sys.stdin``, ``sys.stdout`` and ``sys.stderr`` safe to use; replaced ones stay."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
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
    """Whether what is written to ``stream`` reaches nobody: a closed pipe, or closed before."""
    return isinstance(stream, _Output) and stream.reader_closed


class _Output(io.TextIOWrapper):
    """Text to a file descriptor; after the reader of a pipe has gone, to nowhere."""

    reader_closed = False

    def write(self, text: str, /) -> int:
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
    """Standard input of a process that was started without one: at its end from the start."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8")


def _wrap_output(stream: TextIO | None, descriptor: int) -> _Output:
    if not isinstance(stream, io.TextIOWrapper):
        output = _Output(open(descriptor, "wb", closefd=False), encoding="utf-8")  # noqa: SIM115
        output.reader_closed = True
        return output
    line_buffering, encoding = stream.line_buffering, stream.encoding
    stream.flush()
    return _Output(
        stream.detach(), encoding=encoding, errors="backslashreplace", line_buffering=line_buffering
    )
