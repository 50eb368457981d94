"""The fault seam: ``failpoint(name)`` stands before every write, sync, rename and removal of a run.

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

__all__ = ["FAULT_VARIABLE", "FailpointHook", "failpoint", "install_hook", "kill_at_failpoint"]

FAULT_VARIABLE = "BERTFT_FAULT"
FailpointHook = Callable[[str], None]

_hook: FailpointHook | None = None
_environment_read = False


def failpoint(name: str) -> None:
    """The writer is about to do ``name``, such as "rename step-5". A hook may raise or kill."""
    global _hook, _environment_read
    if not _environment_read:
        _environment_read = True
        _hook = _hook or _hook_from_environment()
    if _hook is not None:
        _hook(name)


@contextmanager
def install_hook(hook: FailpointHook) -> Iterator[None]:
    """Every point calls ``hook`` inside the ``with`` block."""
    global _hook
    previous, _hook = _hook, hook
    try:
        yield
    finally:
        _hook = previous


def kill_at_failpoint(number: int) -> FailpointHook:
    """A hook that ends the process for good at its ``number``-th call."""
    count = 0

    def hook(name: str) -> None:
        nonlocal count
        count += 1
        if count == number:
            os.write(2, f"fault: killed at point {count}, {name}\n".encode(errors="replace"))
            os.kill(os.getpid(), signal.SIGKILL)

    return hook


def _hook_from_environment() -> FailpointHook | None:
    value = os.environ.get(FAULT_VARIABLE)
    if not value:
        return None
    match = re.fullmatch(r"kill:([1-9][0-9]*)", value, re.ASCII)
    if match is None:
        raise UsageError(f"{value!r} is no fault", where=FAULT_VARIABLE, hint="Write kill:<number>")
    return kill_at_failpoint(int(match[1]))
