"""What a command is doing at the moment, as one line on stderr.

    with status_lines():              # the program, once
        show_status("loading model")
        show_status("evaluating", total=3000)
        advance_status(64)            # rows that are done
        with keep_status():           # the status continues after this output
            print("a note")

    predicting  ━━━━━━━━━━━────────────────  84,000/200,000 rows  1,612 rows/s  1:12 left

In a terminal the line has the elapsed seconds, or a bar with the rows that are done, and disappears
when anything else is printed: every write to a standard stream (``utils.terminal``) clears it. A
warning only interrupts it. A file or a pipe gets one plain line per text. If nothing else is
printed for ten seconds, the line is repeated with the elapsed time and the rows that are done,
later less often. Repeated lines are at least ten seconds apart, also those of different texts.
Outside of ``status_lines`` nothing is printed: inside ``log_warnings`` (the Python API) the text is
logged, elsewhere it is ignored.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TextIO

from bertft.utils.numbers import format_clock, format_count
from bertft.utils.terminal import (
    clears_status,
    escape_controls,
    log_status,
    set_before_write,
    supports_unicode,
)

__all__ = [
    "IMPORT_STATUS",
    "advance_status",
    "keep_status",
    "mute_status",
    "set_status_rows",
    "show_status",
    "status_lines",
]

IMPORT_STATUS = "importing torch and transformers"  # takes seconds: shown before the imports
_SECONDS_BEFORE_CLOCK = 2  # a status that is shown for less has no number
_SECONDS_BEFORE_BRIEF = 3.0  # a brief status has no line in a pipe if it takes less
_FIRST_REPEAT, _LAST_REPEAT, _REPEAT_GROWTH = 10.0, 60.0, 1.5  # seconds between repeated lines
_TICK = 0.25  # seconds between two redraws, or two checks whether to repeat a line
_MAX_BAR = 40  # characters
_ERASE_LINE = "\r\x1b[2K"


class _StatusLine:
    """The status of the program. A thread redraws or repeats it until it is cleared."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self.stream, self.muted, self._clock = stream, False, clock
        self.is_live = stream.isatty() and os.environ.get("TERM") != "dumb"
        self.repeats = clears_status(stream)  # otherwise a line could repeat a stage that is over
        self._lock = threading.RLock()
        self._text, self._start = "", 0.0
        self._done, self._total, self._waits = 0.0, 0, False
        self._repeated: float | None = None  # the rows of the last repetition
        self._next_repeat, self._interval = 0.0, _FIRST_REPEAT
        self._last_repeat = -math.inf
        self._printed: set[str] = set()
        self._printing_thread: int | None = None  # its own write does not clear the status
        self._stopped = threading.Event()
        threading.Thread(target=self._run, name="bertft-status", daemon=True).start()

    def show(self, text: str, brief: bool, total: int, waits: bool = False) -> None:
        if self.muted:
            return
        with self._lock:
            self._text, self._start = text, self._clock()
            self._done, self._total, self._waits = 0.0, total, waits
            self._repeated = None
            self._interval = _FIRST_REPEAT
            wait = _SECONDS_BEFORE_BRIEF if brief else _FIRST_REPEAT
            self._next_repeat = max(self._start + wait, self._last_repeat + _FIRST_REPEAT)
            if self.is_live:
                self._draw()
            elif not brief and text not in self._printed:  # the jobs of a sweep repeat their stages
                self._printed.add(text)
                self._print(text)

    def advance(self, count: float) -> None:
        self._done += count

    def set_rows(self, count: int) -> None:
        self._done = count

    def clear(self) -> None:
        """Erase the line. The status is not drawn again."""
        if not self._text or self._printing_thread == threading.get_ident():
            return
        with self._lock:
            if self._text:
                self._text = ""
                if self.is_live:
                    self._write(_ERASE_LINE)

    @contextlib.contextmanager
    def interrupted(self) -> Iterator[None]:
        """Continue with the status after something is printed inside the context."""
        with self._lock:
            text = self._text
            try:
                yield
            finally:
                self._text = text
                if text and self.is_live:
                    self._draw()

    def stop(self) -> None:
        self._stopped.set()
        self.clear()

    def _run(self) -> None:
        while not self._stopped.wait(_TICK):
            with self._lock, contextlib.suppress(OSError, ValueError):  # a closed stream
                self.tick()

    def tick(self) -> None:
        """Redraw the line, or repeat it if it is due."""
        if not self._text:
            return
        if self.is_live:
            self._draw()
        elif self.repeats and self._clock() >= self._next_repeat:
            if self._waits and self._done == self._repeated:
                return
            self._repeated = self._done
            self._last_repeat = self._clock()
            self._next_repeat = self._last_repeat + self._interval
            self._interval = min(_LAST_REPEAT, self._interval * _REPEAT_GROWTH)
            elapsed = self._last_repeat - self._start
            self._print("  ".join([self._text, *self._facts(elapsed)]))

    def _facts(self, elapsed: float) -> list[str]:
        """The rows that are done, their speed, and the remaining or elapsed time."""
        clock = f"{format_clock(elapsed)} elapsed"
        if not self._done:
            return [clock]
        rows = format_count(self._done)
        speed = f"{format_count(self._done / max(elapsed, 1e-9))} rows/s"
        if not self._total:
            return [f"{rows} rows", speed, clock]
        left = max(0.0, self._total - self._done) * elapsed / self._done
        return [f"{rows}/{format_count(self._total)} rows", speed, f"{format_clock(left)} left"]

    def _draw(self) -> None:
        width = shutil.get_terminal_size().columns - 1
        elapsed = self._clock() - self._start
        if self._total:
            self._write(f"{_ERASE_LINE}{self._bar_line(elapsed, width)}")
            return
        if self._done:
            line = "  ".join([self._text, *self._facts(elapsed)])
            self._write(f"{_ERASE_LINE}{line[:width]}")
            return
        seconds = int(elapsed)
        clock = f" ({seconds} s)" if seconds >= _SECONDS_BEFORE_CLOCK else ""
        self._write(f"{_ERASE_LINE}{self._text[: width - len(clock)]}{clock}")

    def _bar_line(self, elapsed: float, width: int) -> str:
        """``evaluating  ━━━━━━────  1,240/3,000 rows  103 rows/s  0:17 left``."""
        facts = "  ".join(self._facts(elapsed))
        size = min(_MAX_BAR, width - len(self._text) - len(facts) - 4)
        if size < 4:
            return f"{self._text}  {facts}"[:width]
        filled = min(size, int(size * self._done / self._total))
        full, empty = ("━", "─") if supports_unicode(self.stream) else ("#", "-")
        return f"{self._text}  {full * filled}{empty * (size - filled)}  {facts}"

    def _print(self, text: str) -> None:
        self._printing_thread = threading.get_ident()
        try:
            self.stream.write(f"{text}\n")
            self.stream.flush()
        finally:
            self._printing_thread = None

    def _write(self, text: str) -> None:
        """Write to the descriptor: the stream would clear the status first."""
        with contextlib.suppress(OSError, ValueError):
            self.stream.flush()
            os.write(self.stream.fileno(), text.encode(self.stream.encoding, "replace"))


_line: _StatusLine | None = None


@contextlib.contextmanager
def status_lines() -> Iterator[None]:
    """Show the status on stderr until the end of the context."""
    global _line
    line = _line = _StatusLine(sys.stderr)
    set_before_write(line.clear, line.interrupted)
    try:
        yield
    finally:
        _line = None
        set_before_write(None)
        line.stop()


def show_status(text: str, *, brief: bool = False, total: int = 0, waits: bool = False) -> None:
    """Show ``text`` as what the program does now, in place of the previous status.

    Args:
        text: The stage.
        brief: Only in a terminal, for work that usually takes about a second. A file or a pipe gets
            a line if it takes longer than three seconds.
        total: The number of rows of the stage; 0 if it is unknown.
        waits: Rows arrive from outside. A file or a pipe then gets a line only after a change.
    """
    text = escape_controls(" ".join(text.split()))
    if _line is not None:
        _line.show(text, brief, total, waits)
    elif not brief:
        log_status(text)


def advance_status(count: float) -> None:
    """``count`` more rows of the stage are done."""
    if _line is not None:
        _line.advance(count)


def set_status_rows(count: int) -> None:
    """``count`` rows of the stage are done."""
    if _line is not None:
        _line.set_rows(count)


def keep_status() -> contextlib.AbstractContextManager[None]:
    """Continue with the status after something is printed inside the context."""
    return contextlib.nullcontext() if _line is None else _line.interrupted()


@contextlib.contextmanager
def mute_status(muted: bool = True) -> Iterator[None]:
    """Show no status inside the context (``quiet=true``, a process that is not the main one)."""
    if _line is None or not muted:
        yield
        return
    before, _line.muted = _line.muted, True
    _line.clear()
    try:
        yield
    finally:
        if _line is not None:
            _line.muted = before
