"""The tree of errors, and the exit status each one ends the program with.

    BertftError                    1
    ├── UsageError                 2   wrong use: an unknown setting, a value out of range
    │   └── DataError              2   bad input: a row, a file, an encoding
    ├── NonFiniteError             3   training met NaN or infinity too often
    ├── MergeRefused               3   the merged model would not equal the adapted one
    ├── EnvironmentFailed          4   disk full, out of memory, Hub unreachable
    ├── SweepFailed                5   some jobs of a sweep failed
    └── Stopped                    130 or 143, by SIGINT or SIGTERM, a checkpoint saved

An error says what went wrong, where, the nearest valid thing, and what to do next. Whatever values
it quotes, its text is bounded (``limit_length``).
Whatever else escapes is a bug of ours: status 1 and a traceback.
"""

from __future__ import annotations

import signal
from typing import Any

__all__ = [
    "BertftError",
    "DataError",
    "MergeError",
    "NonFiniteError",
    "StoppedBySignal",
    "SweepError",
    "SystemResourceError",
    "UsageError",
    "limit_length",
]

_MAX_LINE_LENGTH = 1_000
_MAX_LINES = 100


def limit_length(text: str) -> str:
    """``text`` with the end of a very long line, and very many lines, left out and counted.

    A message quotes names and values from files and command lines, whose length has no limit.
    """
    if len(text) <= _MAX_LINE_LENGTH:
        return text
    lines = text.split("\n")
    shortened_lines = [
        line
        if len(line) <= _MAX_LINE_LENGTH
        else f"{line[:_MAX_LINE_LENGTH]}… ({len(line) - _MAX_LINE_LENGTH:,} more characters)"
        for line in lines[:_MAX_LINES]
    ]
    if len(lines) > _MAX_LINES:
        shortened_lines.append(f"… ({len(lines) - _MAX_LINES:,} more lines)")
    return "\n".join(shortened_lines)


class BertftError(Exception):
    """``what`` went wrong, ``where`` (a setting, a file and line), and the ``hint`` to mend it."""

    status = 1

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(what)
        self.what, self.where, self.hint = what, where, hint

    def __str__(self) -> str:
        what = limit_length(self.what)
        line = f"{limit_length(self.where)}: {what}" if self.where else what
        return f"{line}. {limit_length(self.hint)}" if self.hint else line

    def __reduce__(self) -> tuple[Any, ...]:  # launchers send errors between processes
        return _rebuild, (type(self), self.what, self.where, self.hint)


def _rebuild(cls: type[BertftError], what: str, where: str | None, hint: str | None) -> BertftError:
    error = cls.__new__(cls)
    BertftError.__init__(error, what, where=where, hint=hint)
    return error


class UsageError(BertftError):
    """The command line or the configuration asks for something that cannot be."""

    status = 2


class DataError(UsageError):
    """The input data cannot be read as the configuration says."""


class NonFiniteError(BertftError):
    """The loss or a gradient was NaN or infinite in too many steps in a row."""

    status = 3


class MergeError(BertftError):
    """Folding the adapter into the base would change what the model answers."""

    status = 3


class SystemResourceError(BertftError):
    """The machine let us down: disk, memory, network."""

    status = 4


class SweepError(BertftError):
    """At least one job of a sweep failed; the others are done."""

    status = 5


class StoppedBySignal(BertftError):
    """A signal ended the run after its checkpoint was saved."""

    def __init__(self, signum: int, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}", where=where, hint=hint)
        self.signum = signum
        self.status = 128 + signum

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_stopped, (self.signum, self.where, self.hint)


def _rebuild_stopped(signum: int, where: str | None, hint: str | None) -> StoppedBySignal:
    return StoppedBySignal(signum, where=where, hint=hint)
