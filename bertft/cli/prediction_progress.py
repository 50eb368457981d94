"""Progress of ``bertft predict`` on stderr.

    predicting  ━━━━━━━━━━━━╸━━━━━━━━━━━━  84,000/200,000  1,612 rows/s  1:12 left

In a terminal a bar is redrawn in place. Anywhere else there is one plain line every three seconds.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from bertft.training.callbacks.progress import stderr_console
from bertft.utils.numbers import format_clock, format_count
from bertft.utils.terminal import print_escaped

__all__ = ["PredictionProgress"]

_LINE_SECONDS = 3.0


class PredictionProgress(AbstractContextManager["PredictionProgress"]):
    """A context manager that shows a phase and the number of rows that are done.

    Args:
        is_quiet: no progress is shown, because predictions are printed to the same terminal.
        seconds: time between two lines if stderr is not a terminal.
    """

    def __init__(
        self,
        is_quiet: bool = False,
        seconds: float = _LINE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._is_quiet, self._seconds, self._clock = is_quiet, seconds, clock
        self._phase, self._done, self._total, self._waits = "starting", 0, 0, False
        self._has_bar = True
        self._phase_start = self._last_printed = clock()
        self._printed: tuple[str, int] | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._bar: Progress | None = None
        self._console = stderr_console()
        self._has_terminal = self._console.is_terminal and not self._console.is_dumb_terminal

    def __enter__(self) -> PredictionProgress:
        if not self._is_quiet and not self._has_terminal:
            self._thread = threading.Thread(target=self._print_lines, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    @property
    def rows_per_second(self) -> float:
        """The speed since the phase began."""
        return self._done / max(1e-9, self._clock() - self._phase_start)

    def start_phase(
        self, name: str, total: int = 0, waits: bool = False, has_bar: bool = True
    ) -> None:
        """Start a phase.

        Args:
            total: its number of rows; 0 if it is unknown.
            waits: whether rows arrive from outside; a line is then printed only after a change.
            has_bar: whether progress is shown; False for a phase with a status line.
        """
        if not self._has_bar:  # the status line of the last phase was just shown
            self._last_printed = self._clock()
        self._phase, self._done, self._total, self._waits = name, 0, total, waits
        self._has_bar = has_bar
        self._phase_start = self._clock()
        if self._bar is None and has_bar:
            self._bar = self._start_bar()
        if self._bar is not None:
            task = self._bar.task_ids[0]
            self._bar.reset(task, description=name, total=total or None)

    def _start_bar(self) -> Progress | None:
        if self._is_quiet or not self._has_terminal:
            return None
        bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            _StatusColumn(),
            console=self._console,
            transient=True,
            redirect_stdout=False,
        )
        bar.add_task(self._phase, total=None)
        bar.start()
        return bar

    def update(self, done: int) -> None:
        """``done`` rows of the phase are done."""
        self._done = done
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done)

    def print_line(self, text: str) -> None:
        """Print a line to stderr, above the bar."""
        if self._bar is not None:
            self._bar.console.print(Text(text), soft_wrap=True)
        else:
            print_escaped(text, stderr=True)
        self._last_printed = self._clock()

    def _print_lines(self) -> None:
        """Print the state whenever nothing was printed for a while."""
        while not self._stop.wait(min(0.1, self._seconds)):
            if self._has_bar and self._clock() - self._last_printed >= self._seconds:
                self._print_state()

    def _print_state(self) -> None:
        state = (self._phase, self._done)
        if state != self._printed or not self._waits:
            print(self._status_line(), file=sys.stderr, flush=True)
        self._printed, self._last_printed = state, self._clock()

    def _status_line(self) -> str:
        line = _join_status(self._phase, self._done, self._total, self.rows_per_second)
        if self._done or self._waits:
            return line
        return f"{line}  {format_clock(self._clock() - self._phase_start)}"


def _join_status(phase: str, done: int, total: int, speed: float) -> str:
    if not done:
        return phase if not total else f"{phase} {format_count(total)} rows"
    count = f"{format_count(done)}/{format_count(total)}" if total else f"{format_count(done)} rows"
    left = f"  {format_clock((total - done) / speed)} left" if total and speed else ""
    return f"{phase}  {count}  {format_count(speed)} rows/s{left}"


class _StatusColumn(ProgressColumn):
    """``84,000/200,000  1,612 rows/s  1:12 left``, without the phase."""

    def render(self, task: Task) -> Text:
        speed = task.completed / task.elapsed if task.elapsed else 0.0
        if not task.completed:
            return Text(format_clock(task.elapsed or 0))
        return Text(_join_status("", int(task.completed), int(task.total or 0), speed).strip())
