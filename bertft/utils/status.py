"""What a command is doing at the moment, as one line on stderr.

    with status_lines():              # the program, once
        show_status("loading model")

In a terminal the line has the elapsed seconds and disappears when anything else is printed: every
write to a standard stream (``utils.terminal``) clears it. A file or a pipe gets one plain line per
text. Outside of ``status_lines`` nothing is printed: inside ``log_warnings`` (the Python API)
the text is logged, elsewhere it is ignored.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from typing import TextIO

from bertft.utils.terminal import escape_controls, log_status, set_before_write

__all__ = ["IMPORT_STATUS", "mute_status", "show_status", "status_lines"]

IMPORT_STATUS = "importing torch and transformers"  # takes seconds: shown before the imports
_SECONDS_BEFORE_CLOCK = 2  # a status that is shown for less has no number
_ERASE_LINE = "\r\x1b[2K"


class _StatusLine:
    """The status of the program. A terminal is redrawn by a thread until the line is cleared."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.muted = stream, False
        self._is_live = stream.isatty() and os.environ.get("TERM") != "dumb"
        self._lock = threading.RLock()
        self._text, self._start = "", 0.0
        self._printed: set[str] = set()
        self._stopped = threading.Event()
        if self._is_live:
            threading.Thread(target=self._redraw, name="bertft-status", daemon=True).start()

    def show(self, text: str, brief: bool) -> None:
        if self.muted:
            return
        if self._is_live:
            with self._lock:
                self._text, self._start = text, time.monotonic()
                self._draw()
        elif not brief and text not in self._printed:  # the jobs of a sweep repeat their stages
            self._printed.add(text)
            self.stream.write(f"{text}\n")
            self.stream.flush()

    def clear(self) -> None:
        """Erase the line. The status is not drawn again."""
        if not self._text:
            return
        with self._lock:
            if self._text:
                self._text = ""
                self._write(_ERASE_LINE)

    def stop(self) -> None:
        self._stopped.set()
        self.clear()

    def _redraw(self) -> None:
        while not self._stopped.wait(1):
            with self._lock:
                if self._text:
                    self._draw()

    def _draw(self) -> None:
        seconds = int(time.monotonic() - self._start)
        clock = f" ({seconds} s)" if seconds >= _SECONDS_BEFORE_CLOCK else ""
        width = shutil.get_terminal_size().columns - 1
        self._write(f"{_ERASE_LINE}{self._text[: width - len(clock)]}{clock}")

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
    set_before_write(line.clear)
    try:
        yield
    finally:
        _line = None
        set_before_write(None)
        line.stop()


def show_status(text: str, *, brief: bool = False) -> None:
    """Show ``text`` as what the program does now, in place of the previous status.

    ``brief``: only in a terminal, for work that takes about a second.
    """
    text = escape_controls(" ".join(text.split()))
    if _line is not None:
        _line.show(text, brief)
    elif not brief:
        log_status(text)


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
