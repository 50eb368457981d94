"""Progress of a run on stderr.

    step 1,000  epoch 1.00  accuracy 0.9012 best  loss 0.2871  f1_macro 0.8977
    ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━╸━━━━━━━━━━━━━━━━━━━━━━━━━  1,240/3,000  2:31 left
    epoch 1.24   loss 0.2513   accuracy 0.9012   best 0.9012   lr 9.1e-4
    812 rows/s   24.1k tokens/s   1.2 GB memory   budget 288   mean rank 8.2

In a terminal, evaluations and warnings scroll above a block of at most four lines, which fits the
terminal's width and is redrawn in place. Elsewhere (a pipe, a file, a dumb terminal) there is one
plain line every ``every`` seconds and per evaluation, without control codes, even if FORCE_COLOR
is set. ``quiet`` prints nothing.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterable

from rich.console import Console, RenderableType
from rich.constrain import Constrain
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from bertft.formats.figures import clock as left
from bertft.formats.figures import count
from bertft.listeners.meter import Item, Meter
from bertft.listeners.words import evaluation, sentence
from bertft.training.events import Checkpointed, Evaluated, Event, Finished, Skipped, Step

__all__ = ["ProgressView", "terminal"]

_GAP = 3  # blanks between two figures
_LINES = 3  # of figures, at most
_ROOM = 3  # blank cells at a line's end: where a terminal echoes ^C without starting a new line


class ProgressView:
    """A listener and a context manager. ``best`` is what a resumed run brings along.

    Whatever ends the block leaves the terminal as it was: the cursor is never hidden, so that
    even a process that is killed leaves it visible.
    """

    def __init__(
        self,
        *,
        quiet: bool = False,
        best: float | None = None,
        every: float = 10.0,
        console: Console | None = None,
        meter: Meter | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._quiet, self._every, self._clock = quiet, every, clock
        self._console = console or terminal()
        self._meter = meter or Meter(best, clock)
        self._told = clock()
        self._block: _Block | None = None

    def __enter__(self) -> ProgressView:
        console = self._console
        if not self._quiet and console.is_terminal and not console.is_dumb_terminal:
            self._block = _Block(self._meter, console)
            self._block.start()
            console.show_cursor(True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._block is not None:
            with contextlib.suppress(OSError):
                self._block.stop()
            self._block = None

    def __call__(self, event: Event) -> None:
        self._meter(event)
        if self._quiet or isinstance(event, Checkpointed):
            return
        if isinstance(event, Step):
            if self._block is None and self._clock() - self._told >= self._every:
                self._told = self._clock()
                self._plain(self._meter.line())
            return
        text = sentence(event) or ""
        if self._block is None:
            self._plain(text)
        elif isinstance(event, Evaluated):
            self._above(_evaluation(event))
        elif not (isinstance(event, Finished) and event.reason == "done"):  # the full bar says so
            self._above([Text(text, "yellow" if isinstance(event, Skipped) else "")])

    def _plain(self, text: str) -> None:
        self._console.print(Text(text), soft_wrap=True)

    def _above(self, cells: list[Text]) -> None:
        """One line above the block: as many of ``cells`` as fit."""
        for line in _packed(cells, self._console.width - _ROOM, lines=1, gap=2):
            self._console.print(line, no_wrap=True, overflow="ellipsis")


def terminal() -> Console:
    """stderr; a terminal only where it is one."""
    return _Stderr(
        stderr=True, force_terminal=sys.stderr.isatty(), force_jupyter=False,
        markup=False, emoji=False,
    )  # fmt: skip


class _Stderr(Console):
    def on_broken_pipe(self) -> None:
        """Nobody reads any more: say nothing (rich would end the program)."""
        self.quiet = True


class _Block(Progress):
    """A bar with figures below it. A figure keeps the greatest width it had: nothing jumps."""

    def __init__(self, meter: Meter, console: Console) -> None:
        self._meter, self._terminal = meter, console
        self._widths: dict[str, int] = {}
        super().__init__(  # draws once, before there is a task
            BarColumn(None, "bright_black", "cyan", "green"),
            TextColumn("{task.fields[steps]}", markup=False),
            TextColumn("{task.fields[time]}", markup=False),
            console=console, expand=True, refresh_per_second=4,
            # What others print to the terminal goes above the block; a pipe stays a pipe.
            redirect_stdout=sys.stdout.isatty(),
        )  # fmt: skip
        self.add_task("training", steps="", time="")

    def get_renderables(self) -> Iterable[RenderableType]:
        meter, total = self._meter, count(self._meter.total)
        steps = f"{count(meter.step)}/{total}" if meter.total else "starting"
        for task in self.task_ids:
            self.update(
                task, completed=meter.step, total=max(1, meter.total),
                steps=steps.rjust(2 * len(total) + 1), time=_time(meter),
            )  # fmt: skip
        width = max(1, self._terminal.width - _ROOM)
        yield Constrain(self.make_tasks_table(self.tasks), width)
        figures = []
        for item in meter.items():
            figure, name = _figure(item), f"{item.label}/{item.unit}"
            self._widths[name] = max(self._widths.get(name, 0), figure.cell_len)
            figure.pad_right(self._widths[name] - figure.cell_len)
            figures.append(figure)
        yield from _packed(figures, width, _LINES, _GAP)


def _time(meter: Meter) -> str:
    """The time left, evaluations included; without an estimate, or at the end, the time spent."""
    if meter.total and meter.step >= meter.total:
        return f"{left(meter.elapsed)} in all"
    if meter.seconds_left is None:
        return f"{left(meter.elapsed)} so far"
    return f"{left(meter.seconds_left)} left"


def _figure(item: Item) -> Text:
    style = "bold green" if item.label == "best" else ""
    parts = [(item.label, "dim"), (item.value, style), (item.unit, "dim")]
    return Text(" ").join(Text(text, style) for text, style in parts if text)


def _evaluation(event: Evaluated) -> list[Text]:
    """The parts of its line; the chosen metric stands out where it is the best so far."""
    style = "bold green" if event.best else "bold" if event.counts else ""
    cells = [Text(f"step {count(event.step)}")]
    for part in evaluation(event):
        chosen = part.startswith(f"{event.metric} ")
        cells.append(Text(part, style if chosen else "dim"))
    return cells


def _packed(cells: list[Text], width: int, lines: int, gap: int) -> list[Text]:
    """``cells`` in at most ``lines`` lines of ``width``, each cell whole; the rest is left out."""
    packed: list[Text] = []
    for cell in cells:
        if packed and packed[-1].cell_len + gap + cell.cell_len <= width:
            packed[-1].append(" " * gap).append_text(cell)
        elif len(packed) < lines:
            line = cell.copy()
            line.truncate(width, overflow="ellipsis")
            packed.append(line)
        else:
            break
    for line in packed:
        line.no_wrap = True
    return packed
