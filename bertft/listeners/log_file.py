"""``log.txt``: the run told in sentences, a time of day before each, for whoever looks later."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from bertft.config.printed import escape_controls
from bertft.listeners.meter import ProgressMeter
from bertft.listeners.words import describe_event
from bertft.training.events import Event, StepCompleted

__all__ = ["LogFile"]

_STAMP = "%Y-%m-%d %H:%M:%S"


class LogFile:
    """Appends to ``path`` what it hears: a step every ``every`` seconds, of other events all.

    ``write_line`` writes anything else. OSError where the file cannot be written.
    """

    def __init__(
        self, path: Path, every: float = 10.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        # A path may hold bytes that are no text: they must not end the run.
        self._file = open(path, "a", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
        self._every, self._clock = every, clock
        self._meter = ProgressMeter(clock=clock)
        self._last_step_line = clock()

    def __call__(self, event: Event) -> None:
        self._meter(event)
        if isinstance(event, StepCompleted):
            if self._clock() - self._last_step_line < self._every:
                return
            self._last_step_line = self._clock()
            self.write_line(self._meter.summary_line())
        elif (text := describe_event(event)) is not None:
            self.write_line(text)

    def write_line(self, text: str) -> None:
        """Write ``text`` under one stamp; its further lines are indented."""
        stamp = datetime.now().astimezone().strftime(_STAMP)
        first, *further_lines = escape_controls(text).splitlines() or [""]
        indent = " " * len(stamp)
        body = "".join(f"{indent}  {further_line}\n" for further_line in further_lines)
        self._file.write(f"{stamp}  {first}\n{body}")
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> LogFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
