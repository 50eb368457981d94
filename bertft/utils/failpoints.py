"""Fault injection: ``failpoint(name)`` is called before every write, sync, rename and removal.

It does nothing unless a test installs a hook or the environment has

    BERTFT_FAULT=kill:N    SIGKILL just before the N-th failpoint (from 1) of this process

The crash tests use it to stop a real training run at each of its writes.
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
    """Call the hook, which may raise or kill, before an operation such as "rename step-5"."""
    global _hook, _environment_read
    if not _environment_read:
        _environment_read = True
        _hook = _hook or _hook_from_environment()
    if _hook is not None:
        _hook(name)


@contextmanager
def install_hook(hook: FailpointHook) -> Iterator[None]:
    """Call ``hook`` at every failpoint inside the ``with`` block."""
    global _hook
    previous, _hook = _hook, hook
    try:
        yield
    finally:
        _hook = previous


def kill_at_failpoint(number: int) -> FailpointHook:
    """A hook that kills the process at its ``number``-th call."""
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
        raise UsageError(f"invalid value {value!r}", where=FAULT_VARIABLE, hint="Use kill:<number>")
    return kill_at_failpoint(int(match[1]))
