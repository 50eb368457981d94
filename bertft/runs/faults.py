"""The fault seam: ``point(name)`` stands before every write, sync, rename and removal of a run.

It does nothing, unless a test installs a hook, or the process was started with

    BERTFT_FAULT=kill:N    SIGKILL just before the N-th point (from 1) that this process meets

which is how the crash tests stop real training at each of its writes in turn.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bertft.errors import UsageError

__all__ = ["VARIABLE", "Hook", "installed", "kill_at", "point"]

VARIABLE = "BERTFT_FAULT"
Hook = Callable[[str], None]

_hook: Hook | None = None
_environment_read = False


def point(name: str) -> None:
    """The writer is about to do ``name``, such as "rename step-5". A hook may raise or kill."""
    global _hook, _environment_read
    if not _environment_read:
        _environment_read = True
        _hook = _hook or _from_environment()
    if _hook is not None:
        _hook(name)


@contextmanager
def installed(hook: Hook) -> Iterator[None]:
    """Every point calls ``hook`` inside the ``with`` block."""
    global _hook
    before, _hook = _hook, hook
    try:
        yield
    finally:
        _hook = before


def kill_at(number: int) -> Hook:
    """A hook that ends the process for good at its ``number``-th call."""
    met = 0

    def hook(name: str) -> None:
        nonlocal met
        met += 1
        if met == number:
            os.write(2, f"fault: killed at point {met}, {name}\n".encode(errors="replace"))
            os.kill(os.getpid(), signal.SIGKILL)

    return hook


def _from_environment() -> Hook | None:
    asked = os.environ.get(VARIABLE)
    if not asked:
        return None
    match = re.fullmatch(r"kill:([1-9][0-9]*)", asked, re.ASCII)
    if match is None:
        raise UsageError(f"{asked!r} is no fault", where=VARIABLE, hint="Write kill:<number>")
    return kill_at(int(match[1]))
