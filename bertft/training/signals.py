"""SIGTERM and SIGINT: the first asks the loop to finish its step and save, the second ends it.

Where there is nothing to save, the first one interrupts: ``InterruptOnSignal``. A queue that takes
a job back announces it with SIGUSR1 or SIGUSR2; where somebody listens to them (submitit does),
they are heard like the first SIGTERM. ``Stopped`` tells which it was, so that the listener can be
told once all is saved; where no Stopped tells it, the listener hears it when the block ends.
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
    """``with StopRequest() as stop:`` — ``stop.signum`` is the signal that came, or None.

    Handlers are put back at the end. Outside the main thread no handler can be set, and a
    request never comes.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._previous_handlers: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            scheduler_signals = [
                candidate
                for candidate in SCHEDULER_SIGNALS
                if callable(signal.getsignal(candidate))
            ]
            for signum in (*_TERMINATION_SIGNALS, *scheduler_signals):
                self._previous_handlers[signum] = signal.signal(signum, self._handle_signal)
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._restore()
        reported = isinstance(error, StoppedBySignal) and error.signum == self.signum
        if self.signum is not None and self.signum in SCHEDULER_SIGNALS and not reported:
            signal.raise_signal(self.signum)  # it came when the loop had ended

    def _handle_signal(self, signum: int, _: FrameType | None) -> None:
        if self.signum not in SCHEDULER_SIGNALS:  # a queue's says more, and SIGTERM comes with it
            self.signum = signum
        if signum in _TERMINATION_SIGNALS:
            # The next one is not ours any more: it ends the process at once.
            for ending_signal in _TERMINATION_SIGNALS:
                signal.signal(ending_signal, signal.SIG_DFL)

    def _restore(self) -> None:
        for signum, handler in self._previous_handlers.items():
            signal.signal(signum, handler)
        self._previous_handlers = {}


class InterruptOnSignal(StopRequest):
    """The same, but the first signal interrupts the block, which cleans up on its way out.

    Raises Stopped at the block's end. Inside it the signal is a KeyboardInterrupt: neither our code
    nor a library takes it for an ordinary failure and goes on.
    """

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._restore()
        if self.signum is None or (
            isinstance(error, StoppedBySignal) and error.signum == self.signum
        ):
            return
        # Also where the interrupt was caught on its way: the block did not run undisturbed.
        raise StoppedBySignal(self.signum) from (
            None if isinstance(error, KeyboardInterrupt) else error
        )

    def _handle_signal(self, signum: int, frame: FrameType | None) -> None:
        super()._handle_signal(signum, frame)
        raise KeyboardInterrupt
