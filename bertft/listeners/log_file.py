"""``log.txt``: the run told in sentences, a time of day before each, for whoever looks later."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from bertft.config.printed import printed
from bertft.listeners.meter import Meter
from bertft.listeners.words import sentence
from bertft.training.events import Event, Step

__all__ = ["LogFile"]

_STAMP = "%Y-%m-%d %H:%M:%S"


class LogFile:
    """Appends to ``path`` what it hears: a step every ``every`` seconds, of other events all.

    ``line`` writes anything else. OSError where the file cannot be written.
    """

    def __init__(
        self, path: Path, every: float = 10.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        # A path may hold bytes that are no text: they must not end the run.
        self._file = open(path, "a", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
        self._every, self._clock = every, clock
        self._meter = Meter(clock=clock)
        self._told = clock()

    def __call__(self, event: Event) -> None:
        self._meter(event)
        if isinstance(event, Step):
            if self._clock() - self._told < self._every:
                return
            self._told = self._clock()
            self.line(self._meter.line())
        elif (text := sentence(event)) is not None:
            self.line(text)

    def line(self, text: str) -> None:
        """Write ``text`` under one stamp; its further lines are indented."""
        stamp = datetime.now().astimezone().strftime(_STAMP)
        first, *more = printed(text).splitlines() or [""]
        blank = " " * len(stamp)
        body = "".join(f"{blank}  {each}\n" for each in more)
        self._file.write(f"{stamp}  {first}\n{body}")
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> LogFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
