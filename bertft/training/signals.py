"""SIGTERM and SIGINT: the first asks the loop to finish its step and save, the second ends it.

Where nothing is there to be saved, the first one raises: ``EndingSignal``.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from bertft.errors import Stopped

__all__ = ["EndingSignal", "StopRequest"]


class StopRequest:
    """``with StopRequest() as stop:`` — ``stop.signum`` is the signal that came, or None.

    Handlers are put back at the end. Outside the main thread no handler can be set, and a
    request never comes.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGTERM, signal.SIGINT):
                self._before[signum] = signal.signal(signum, self._heard)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _heard(self, signum: int, _: FrameType | None) -> None:
        self.signum = signum
        # The next one is not ours any more: it ends the process at once.
        for each in self._before:
            signal.signal(each, signal.SIG_DFL)

    def _restore(self) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        self._before = {}


class EndingSignal(StopRequest):
    """The same, but the first signal raises Stopped, and the block cleans up on its way out."""

    def _heard(self, signum: int, frame: FrameType | None) -> None:
        super()._heard(signum, frame)
        raise Stopped(signum)
