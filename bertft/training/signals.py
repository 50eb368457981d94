"""Handle SIGTERM and SIGINT: after the first, a checkpoint is saved; the second ends the process.

``StopRequest`` records the first signal, and the training loop finishes its step and saves.
``InterruptOnSignal`` interrupts a block that has nothing to save. A scheduler sends SIGUSR1 or
SIGUSR2 before it preempts a job. If a handler for them exists (submitit installs one), they are
handled like the first SIGTERM. Its handler is called after the checkpoint is saved: by the code
that catches ``StoppedBySignal``, or at the end of the block if that error was not raised.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from bertft.errors import StoppedBySignal

__all__ = ["SCHEDULER_SIGNALS", "InterruptOnSignal", "StopRequest"]

_TERMINATION_SIGNALS = (signal.SIGTERM, signal.SIGINT)
SCHEDULER_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2") if hasattr(signal, name)
)


class StopRequest:
    """``with StopRequest() as stop:`` — ``stop.signum`` is the signal that was received, or None.

    The previous handlers are restored at the end of the block. Outside the main thread Python
    supports no handlers, and ``signum`` stays None.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._previous_handlers: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            scheduler_signals = [
                signum for signum in SCHEDULER_SIGNALS if callable(signal.getsignal(signum))
            ]
            for signum in (*_TERMINATION_SIGNALS, *scheduler_signals):
                self._previous_handlers[signum] = signal.signal(signum, self._handle_signal)
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._restore()
        reported = isinstance(error, StoppedBySignal) and error.signum == self.signum
        if self.signum is not None and self.signum in SCHEDULER_SIGNALS and not reported:
            signal.raise_signal(self.signum)  # received after the loop had ended

    def _handle_signal(self, signum: int, _: FrameType | None) -> None:
        if self.signum not in SCHEDULER_SIGNALS:  # a scheduler sends SIGTERM too
            self.signum = signum
        if signum in _TERMINATION_SIGNALS:
            # The default handler ends the process at the next signal.
            for ending_signal in _TERMINATION_SIGNALS:
                signal.signal(ending_signal, signal.SIG_DFL)

    def _restore(self) -> None:
        for signum, handler in self._previous_handlers.items():
            signal.signal(signum, handler)
        self._previous_handlers = {}


class InterruptOnSignal(StopRequest):
    """A StopRequest whose first signal interrupts the block, which removes its partial output.

    Raises StoppedBySignal at the end of the block. Inside the block the signal is a
    KeyboardInterrupt, which code that catches Exception does not suppress.
    """

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._restore()
        if self.signum is None or (
            isinstance(error, StoppedBySignal) and error.signum == self.signum
        ):
            return
        # Also if the block caught the interrupt, because it may be incomplete.
        raise StoppedBySignal(self.signum) from (
            None if isinstance(error, KeyboardInterrupt) else error
        )

    def _handle_signal(self, signum: int, frame: FrameType | None) -> None:
        super()._handle_signal(signum, frame)
        raise KeyboardInterrupt
