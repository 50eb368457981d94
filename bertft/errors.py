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
it quotes, its text is bounded (``bounded``).
Whatever else escapes is a bug of ours: status 1 and a traceback.
"""

from __future__ import annotations

import signal
from typing import Any

__all__ = [
    "BertftError",
    "DataError",
    "EnvironmentFailed",
    "MergeRefused",
    "NonFiniteError",
    "Stopped",
    "SweepFailed",
    "UsageError",
    "bounded",
]

_LONGEST_LINE = 1_000
_MOST_LINES = 100


def bounded(text: str) -> str:
    """``text`` with the end of a very long line, and very many lines, left out and counted.

    A message quotes names and values from files and command lines, whose length has no limit.
    """
    if len(text) <= _LONGEST_LINE:
        return text
    lines = text.split("\n")
    shown = [
        line
        if len(line) <= _LONGEST_LINE
        else f"{line[:_LONGEST_LINE]}… ({len(line) - _LONGEST_LINE:,} more characters)"
        for line in lines[:_MOST_LINES]
    ]
    if len(lines) > _MOST_LINES:
        shown.append(f"… ({len(lines) - _MOST_LINES:,} more lines)")
    return "\n".join(shown)


class BertftError(Exception):
    """``what`` went wrong, ``where`` (a setting, a file and line), and the ``hint`` to mend it."""

    status = 1

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(what)
        self.what, self.where, self.hint = what, where, hint

    def __str__(self) -> str:
        what = bounded(self.what)
        line = f"{bounded(self.where)}: {what}" if self.where else what
        return f"{line}. {bounded(self.hint)}" if self.hint else line

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


class MergeRefused(BertftError):
    """Folding the adapter into the base would change what the model answers."""

    status = 3


class EnvironmentFailed(BertftError):
    """The machine let us down: disk, memory, network."""

    status = 4


class SweepFailed(BertftError):
    """At least one job of a sweep failed; the others are done."""

    status = 5


class Stopped(BertftError):
    """A signal ended the run after its checkpoint was saved."""

    def __init__(self, signum: int, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}", where=where, hint=hint)
        self.signum = signum
        self.status = 128 + signum

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_stopped, (self.signum, self.where, self.hint)


def _rebuild_stopped(signum: int, where: str | None, hint: str | None) -> Stopped:
    return Stopped(signum, where=where, hint=hint)
