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

from bertft.training.callbacks.log_file import describe_evaluation, describe_event
from bertft.training.callbacks.meter import ProgressMeter, StatusItem
from bertft.training.events import (
    Checkpointed,
    Evaluated,
    Event,
    Finished,
    StepCompleted,
    StepSkipped,
)
from bertft.utils.numbers import format_clock as left
from bertft.utils.numbers import format_count

__all__ = ["ProgressView", "stderr_console"]

_ITEM_GAP = 3  # blanks between two figures
_MAX_ITEM_LINES = 3  # of figures, at most
_RIGHT_MARGIN = (
    3  # blank cells at a line's end: where a terminal echoes ^C without starting a new line
)


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
        meter: ProgressMeter | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._quiet, self._every, self._clock = quiet, every, clock
        self._console = console or stderr_console()
        self._meter = meter or ProgressMeter(best, clock)
        self._last_printed = clock()
        self._block: _LiveBlock | None = None

    def __enter__(self) -> ProgressView:
        console = self._console
        if not self._quiet and console.is_terminal and not console.is_dumb_terminal:
            self._block = _LiveBlock(self._meter, console)
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
        if isinstance(event, StepCompleted):
            if self._block is None and self._clock() - self._last_printed >= self._every:
                self._last_printed = self._clock()
                self._print_line(self._meter.summary_line())
            return
        text = describe_event(event) or ""
        if self._block is None:
            self._print_line(text)
        elif isinstance(event, Evaluated):
            self._print_above_block(_evaluation_cells(event))
        elif not (isinstance(event, Finished) and event.reason == "done"):  # the full bar says so
            self._print_above_block(
                [Text(text, "yellow" if isinstance(event, StepSkipped) else "")]
            )

    def _print_line(self, text: str) -> None:
        self._console.print(Text(text), soft_wrap=True)

    def _print_above_block(self, cells: list[Text]) -> None:
        """One line above the block: as many of ``cells`` as fit."""
        for line in _pack_cells(cells, self._console.width - _RIGHT_MARGIN, lines=1, gap=2):
            self._console.print(line, no_wrap=True, overflow="ellipsis")


def stderr_console() -> Console:
    """stderr; a terminal only where it is one."""
    return _StderrConsole(
        stderr=True,
        force_terminal=sys.stderr.isatty(),
        force_jupyter=False,
        markup=False,
        emoji=False,
    )


class _StderrConsole(Console):
    def on_broken_pipe(self) -> None:
        """Nobody reads any more: say nothing (rich would end the program)."""
        self.quiet = True


class _LiveBlock(Progress):
    """A bar with figures below it. A figure keeps the greatest width it had: nothing jumps."""

    def __init__(self, meter: ProgressMeter, console: Console) -> None:
        self._meter, self._terminal = meter, console
        self._widths: dict[str, int] = {}
        super().__init__(  # draws once, before there is a task
            BarColumn(None, "bright_black", "cyan", "green"),
            TextColumn("{task.fields[steps]}", markup=False),
            TextColumn("{task.fields[time]}", markup=False),
            console=console,
            expand=True,
            refresh_per_second=4,
            # What others print to the terminal goes above the block; a pipe stays a pipe.
            redirect_stdout=sys.stdout.isatty(),
        )
        self.add_task("training", steps="", time="")

    def get_renderables(self) -> Iterable[RenderableType]:
        meter, total = self._meter, format_count(self._meter.total)
        steps = f"{format_count(meter.step)}/{total}" if meter.total else "starting"
        for task in self.task_ids:
            self.update(
                task,
                completed=meter.step,
                total=max(1, meter.total),
                steps=steps.rjust(2 * len(total) + 1),
                time=_time_text(meter),
            )
        width = max(1, self._terminal.width - _RIGHT_MARGIN)
        yield Constrain(self.make_tasks_table(self.tasks), width)
        item_texts = []
        for item in meter.items():
            item_text, item_key = _item_text(item), f"{item.label}/{item.unit}"
            self._widths[item_key] = max(self._widths.get(item_key, 0), item_text.cell_len)
            item_text.pad_right(self._widths[item_key] - item_text.cell_len)
            item_texts.append(item_text)
        yield from _pack_cells(item_texts, width, _MAX_ITEM_LINES, _ITEM_GAP)


def _time_text(meter: ProgressMeter) -> str:
    """The time left, evaluations included; without an estimate, or at the end, the time spent."""
    if meter.total and meter.step >= meter.total:
        return f"{left(meter.elapsed)} in all"
    if meter.seconds_left is None:
        return f"{left(meter.elapsed)} so far"
    return f"{left(meter.seconds_left)} left"


def _item_text(item: StatusItem) -> Text:
    style = "bold green" if item.label == "best" else ""
    parts = [(item.label, "dim"), (item.value, style), (item.unit, "dim")]
    return Text(" ").join(Text(text, style) for text, style in parts if text)


def _evaluation_cells(event: Evaluated) -> list[Text]:
    """The parts of its line; the chosen metric stands out where it is the best so far."""
    style = "bold green" if event.best else "bold" if event.eligible else ""
    cells = [Text(f"step {format_count(event.step)}")]
    for part in describe_evaluation(event):
        chosen = part.startswith(f"{event.metric} ")
        cells.append(Text(part, style if chosen else "dim"))
    return cells


def _pack_cells(cells: list[Text], width: int, lines: int, gap: int) -> list[Text]:
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
