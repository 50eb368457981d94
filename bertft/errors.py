"""The exceptions of bertft and the exit status of the program for each of them.

    BertftError                    1
    ├── UsageError                 2   wrong use: an unknown setting, a value out of range
    │   └── DataError              2   bad input: a row, a file, an encoding
    ├── NonFiniteError             3   too many steps with NaN or infinity
    ├── CollapseError              3   the predictions do not depend on the input any more
    ├── MergeError                 3   a merged or exported model would give other predictions
    ├── SystemResourceError        4   disk full, out of memory, Hub unreachable
    ├── SweepError                 5   some jobs of a sweep failed
    └── StoppedBySignal            130 or 143: SIGINT or SIGTERM; a checkpoint was saved

An error states the problem, the place, the closest valid value and the action. The length of its
text is limited (``limit_length``). Any other exception that reaches the user is a bug of bertft:
status 1 and a traceback.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import Any

__all__ = [
    "BertftError",
    "CollapseError",
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
    """``text`` without the end of very long lines and of a very long list of lines.

    What is left out is counted. Messages quote names and values of any length from files and
    command lines.
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
    """``what`` is wrong, ``where`` (a setting, a file and line), and a ``hint`` how to fix it.

    ``proposed_settings`` may fix it; the command line shows the command with them.
    """

    status = 1
    proposed_settings: Sequence[str] = ()

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
    """The command line or the configuration is invalid."""

    status = 2


class DataError(UsageError):
    """The input data cannot be read as configured."""


class NonFiniteError(BertftError):
    """The loss or a gradient was NaN or infinite in too many steps in a row."""

    status = 3


class CollapseError(BertftError):
    """The run collapsed and cannot be retried, or trainer.on_collapse=stop ended it."""

    status = 3


class MergeError(BertftError):
    """The merged or exported model would give other predictions than the run."""

    status = 3


class SystemResourceError(BertftError):
    """System error: disk, memory, network."""

    status = 4


class SweepError(BertftError):
    """At least one job of a sweep failed; the others are finished."""

    status = 5


class StoppedBySignal(BertftError):
    """A signal stopped the run after its checkpoint was saved."""

    def __init__(self, signum: int, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}", where=where, hint=hint)
        self.signum = signum
        self.status = 128 + signum

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_stopped, (self.signum, self.where, self.hint)


def _rebuild_stopped(signum: int, where: str | None, hint: str | None) -> StoppedBySignal:
    return StoppedBySignal(signum, where=where, hint=hint)
