"""Progress display of a run on stderr.

    step 1,000  epoch 1.00  accuracy 0.9012 best  loss 0.2871  f1_macro 0.8977
    ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━╸━━━━━━━━━━━━━━━━━━━━━━━━━  1,240/3,000  2:31 left
    epoch 1.24   loss 0.2513   accuracy 0.9012   best 0.9012   lr 9.1e-4
    812 rows/s   24.1k tokens/s   1.2 GB memory   budget 288   mean rank 8.2

In a terminal, evaluations and warnings are printed above a block of at most four lines, which fits
the width of the terminal and is redrawn in place. A pipe, a file or a dumb terminal gets one plain
line after three seconds, later every ``every`` seconds, and one per evaluation, without control
codes, even if FORCE_COLOR is set. ``quiet`` prints nothing.
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
    Collapsed,
    Evaluated,
    Event,
    Finished,
    Retried,
    StepCompleted,
    StepSkipped,
)
from bertft.utils.numbers import format_count
from bertft.utils.status import mute_status, show_status

__all__ = ["ProgressView", "stderr_console"]

_ITEM_GAP = 3  # spaces between two items
_MAX_ITEM_LINES = 3
_FIRST_LINE_SECONDS, _INTERVAL_GROWTH = 3.0, 1.5  # outside of a terminal
_RIGHT_MARGIN = 3  # empty columns at the end of a line: an echoed ^C fits there without a wrap


class ProgressView:
    """A callback and context manager that displays progress.

    The cursor is never hidden: it stays visible if the process is killed.

    Args:
        best: value of the best evaluation of a resumed run.
        every: seconds between two lines if stderr is not a terminal, after the first ones.
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
        self._interval = min(_FIRST_LINE_SECONDS, every)
        self._last_printed = clock()
        self._block: _LiveBlock | None = None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> ProgressView:
        console = self._console
        if not self._quiet and console.is_terminal and not console.is_dumb_terminal:
            self._block = _LiveBlock(self._meter, console)
            self._stack.enter_context(mute_status())  # the block says what happens
            self._block.start()
            console.show_cursor(True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._block is not None:
            with contextlib.suppress(OSError):
                self._block.stop()
            self._block = None
        self._stack.close()

    def __call__(self, event: Event) -> None:
        self._meter(event)
        if self._quiet or isinstance(event, Checkpointed):
            return
        if isinstance(event, StepCompleted):
            if self._block is None:
                if self._clock() - self._last_printed >= self._interval:
                    self._interval = min(self._every, self._interval * _INTERVAL_GROWTH)
                    self._last_printed = self._clock()
                    self._print_line(self._meter.summary_line())
                show_status(f"step {format_count(event.step + 1)}", brief=True)  # if it takes long
            return
        text = describe_event(event) or ""
        if self._block is None:
            self._print_line(text)
        elif isinstance(event, Evaluated):
            self._print_above_block(_evaluation_texts(event))
        elif isinstance(event, (Collapsed, Retried)):  # a rare text, which is not cut
            width = max(1, self._console.width - _RIGHT_MARGIN)
            self._console.print(Text(text, "yellow"), width=width)
        elif not (isinstance(event, Finished) and event.reason == "done"):  # the full bar shows it
            self._print_above_block(
                [Text(text, "yellow" if isinstance(event, StepSkipped) else "")]
            )

    def _print_line(self, text: str) -> None:
        self._console.print(Text(text), soft_wrap=True)

    def _print_above_block(self, texts: list[Text]) -> None:
        """Print one line above the block, with as many of ``texts`` as fit."""
        for line in _pack_texts(texts, self._console.width - _RIGHT_MARGIN, lines=1, gap=2):
            self._console.print(line, no_wrap=True, overflow="ellipsis")


def stderr_console() -> Console:
    """A console on stderr that uses control codes only if stderr is a terminal."""
    return _StderrConsole(
        stderr=True,
        force_terminal=sys.stderr.isatty(),
        force_jupyter=False,
        markup=False,
        emoji=False,
    )


class _StderrConsole(Console):
    def on_broken_pipe(self) -> None:
        """Stop printing. The default of rich exits the program."""
        self.quiet = True


class _LiveBlock(Progress):
    """A progress bar with items below it. Items never become narrower, so that they do not move."""

    def __init__(self, meter: ProgressMeter, console: Console) -> None:
        self._meter, self._terminal = meter, console
        self._widths: dict[str, int] = {}
        super().__init__(  # renders once, before there is a task
            BarColumn(None, "bright_black", "cyan", "green"),
            TextColumn("{task.fields[steps]}", markup=False),
            TextColumn("{task.fields[time]}", markup=False),
            console=console,
            expand=True,
            refresh_per_second=4,
            # Other output to a terminal is printed above the block; a pipe is not redirected.
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
                time=meter.time_text,
            )
        width = max(1, self._terminal.width - _RIGHT_MARGIN)
        yield Constrain(self.make_tasks_table(self.tasks), width)
        item_texts = []
        for item in meter.items():
            item_text, item_key = _item_text(item), f"{item.label}/{item.unit}"
            self._widths[item_key] = max(self._widths.get(item_key, 0), item_text.cell_len)
            item_text.pad_right(self._widths[item_key] - item_text.cell_len)
            item_texts.append(item_text)
        yield from _pack_texts(item_texts, width, _MAX_ITEM_LINES, _ITEM_GAP)


def _item_text(item: StatusItem) -> Text:
    value_style = "bold green" if item.label == "best" else ""
    styled_texts = [(item.label, "dim"), (item.value, value_style), (item.unit, "dim")]
    return Text(" ").join(Text(text, style) for text, style in styled_texts if text)


def _evaluation_texts(event: Evaluated) -> list[Text]:
    """The texts of a line about an evaluation; the selection metric is highlighted."""
    style = "bold green" if event.best else "bold" if event.eligible else ""
    texts = [Text(f"step {format_count(event.step)}")]
    for item in describe_evaluation(event):
        is_selection_metric = item.startswith(f"{event.metric} ")
        texts.append(Text(item, style if is_selection_metric else "dim"))
    return texts


def _pack_texts(texts: list[Text], width: int, lines: int, gap: int) -> list[Text]:
    """Distribute ``texts`` over at most ``lines`` lines of ``width``; the rest is left out."""
    packed: list[Text] = []
    for text in texts:
        if packed and packed[-1].cell_len + gap + text.cell_len <= width:
            packed[-1].append(" " * gap).append_text(text)
        elif len(packed) < lines:
            line = text.copy()
            line.truncate(width, overflow="ellipsis")
            packed.append(line)
        else:
            break
    for line in packed:
        line.no_wrap = True
    return packed
