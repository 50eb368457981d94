"""The run on stderr, as one looks at it while it goes.

    step 1,000  epoch 1.00  accuracy 0.9012 best  loss 0.2871  f1_macro 0.8977
    ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━╸━━━━━━━━━━━━━━━━━━━━━━━━━  1,240/3,000  2:31 left
    epoch 1.24   loss 0.2513   accuracy 0.9012   best 0.9012   lr 9.1e-4
    812 rows/s   24.1k tokens/s   1.2 GB memory   budget 288   mean rank 8.2

In a terminal: evaluations and warnings scroll by above a block of at most four lines that is
drawn anew; the block fits the terminal's width, whatever that is. Elsewhere (a pipe, a file, a
terminal that knows no more): a plain line every ``every`` seconds, and for each evaluation; no
control codes, not even where FORCE_COLOR asks for them. ``quiet``: nothing at all.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
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
        self._live: Live | None = None

    def __enter__(self) -> ProgressView:
        console = self._console
        if not self._quiet and console.is_terminal and not console.is_dumb_terminal:
            self._live = Live(
                _Block(self._meter),
                console=console,
                refresh_per_second=4,
                # What others print to the terminal goes above the block; a pipe stays a pipe.
                redirect_stdout=sys.stdout.isatty(),
            )
            self._live.start()
            console.show_cursor(True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            with contextlib.suppress(OSError):
                self._live.stop()
            self._live = None

    def __call__(self, event: Event) -> None:
        self._meter(event)
        if self._quiet or isinstance(event, Checkpointed):
            return
        if isinstance(event, Step):
            if self._live is None and self._clock() - self._told >= self._every:
                self._told = self._clock()
                self._plain(self._meter.line())
            return
        text = sentence(event) or ""
        if self._live is None:
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


class _Block:
    """The lines that are drawn anew. A figure keeps the widest place it took: nothing jumps."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._widths: dict[str, int] = {}

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = max(1, options.max_width - _ROOM)
        yield self._bar(width)
        cells = []
        for item in self._meter.items():
            cell = _cell(item)
            place = f"{item.label}/{item.unit}"
            self._widths[place] = max(self._widths.get(place, 0), cell.cell_len)
            cell.pad_right(self._widths[place] - cell.cell_len)
            cells.append(cell)
        yield from _packed(cells, width, _LINES, _GAP)

    def _bar(self, width: int) -> Table | Text:
        meter = self._meter
        steps = f"{count(meter.step)}/{count(meter.total)}" if meter.total else "starting"
        if meter.total and meter.step >= meter.total:
            rest = f"{left(meter.elapsed)} in all"
        elif meter.seconds_left is None:
            rest = f"{left(meter.elapsed)} so far"
        else:
            rest = f"{left(meter.seconds_left)} left"
        figures = Text.assemble(steps.rjust(2 * len(count(meter.total)) + 1), "  ", rest)
        room = width - figures.cell_len - 2
        if room < 8:
            figures.truncate(width, overflow="ellipsis")
            return figures
        bar = ProgressBar(
            total=max(1, meter.total), completed=meter.step, width=room,
            style="bright_black", complete_style="cyan", finished_style="green",
        )  # fmt: skip
        line = Table.grid(padding=(0, 2, 0, 0))
        line.add_row(bar, figures)
        return line


def _cell(item: Item) -> Text:
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
