"""Progress display of a run in Jupyter: one output that is updated in place.

▮▮▮▮▮▮▮▯▯▯  1,240/3,000  2:31 left          a progress bar
epoch 1.24   loss 0.2513   lr 9.1e-4        the status
step  epoch  accuracy  loss  f1_macro       one row per evaluation, the best one in bold
"""

from __future__ import annotations

import contextlib
import html
import time
from collections.abc import Callable

from bertft.training.callbacks.log_file import describe_event
from bertft.training.callbacks.meter import ProgressMeter
from bertft.training.events import Checkpointed, Evaluated, Event, Started, StepCompleted
from bertft.utils.metric_names import overall_metrics
from bertft.utils.notebook import display_html
from bertft.utils.numbers import format_count, format_score

__all__ = ["NotebookView"]

_SECONDS_BETWEEN_UPDATES = 0.5
_MAX_NOTES = 20  # skipped steps, for example


class NotebookView:
    """A callback and context manager.

    Args:
        best: Value of the best evaluation of a resumed run.
        display: Shows HTML and returns a function that replaces it; None: that of IPython.
        clock: Returns the time in seconds.
    """

    def __init__(
        self,
        best: float | None = None,
        display: Callable[[str], Callable[[str], object]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._meter, self._clock = ProgressMeter(best, clock), clock
        self._display = display or display_html
        self._update: Callable[[str], object] | None = None
        self._updated_at = 0.0
        self._evaluations: list[Evaluated] = []
        self._notes: list[str] = []

    def __enter__(self) -> NotebookView:
        self._update = self._display(self.html())
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(Exception):  # the display must not end a finished run
            self._show()
        self._update = None

    def __call__(self, event: Event) -> None:
        self._meter(event)
        if isinstance(event, (Checkpointed, Started)):
            return
        if isinstance(event, StepCompleted):
            if self._clock() - self._updated_at >= _SECONDS_BETWEEN_UPDATES:
                self._show()
            return
        if isinstance(event, Evaluated):
            self._evaluations.append(event)
        else:
            self._notes = [*self._notes, describe_event(event) or ""][-_MAX_NOTES:]
        self._show()

    def html(self) -> str:
        """The whole display."""
        meter = self._meter
        total = max(1, meter.total)
        steps = f"{format_count(meter.step)}/{format_count(meter.total)} steps"
        status = " · ".join(html.escape(str(item)) for item in meter.items())
        notes = "".join(f"<div>{html.escape(note)}</div>" for note in self._notes)
        return (
            f'<progress value="{meter.step}" max="{total}" style="width: 300px"></progress>'
            f" {steps}, {meter.time_text}<div><small>{status}</small></div>"
            f"{_evaluation_table(self._evaluations)}{notes}"
        )

    def _show(self) -> None:
        self._updated_at = self._clock()
        if self._update is not None:
            self._update(self.html())


def _evaluation_table(evaluations: list[Evaluated]) -> str:
    if not evaluations:
        return ""
    names = overall_metrics(evaluations[0].metrics, evaluations[0].metric)
    best = max((index for index, event in enumerate(evaluations) if event.best), default=None)
    head = "".join(f"<th>{html.escape(name)}</th>" for name in ("step", "epoch", *names))
    rows = ""
    for index, event in enumerate(evaluations):
        scores = (format_score(event.metrics.get(name)) for name in names)
        cells = (format_count(event.step), f"{event.epoch:.2f}", *scores)
        style = ' style="font-weight: bold"' if index == best else ""
        rows += f"<tr{style}>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
