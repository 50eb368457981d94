"""``log.txt``: the events of a run as text, with a timestamp per line."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from bertft.training.callbacks.meter import ProgressMeter
from bertft.training.events import (
    Checkpointed,
    Collapsed,
    Evaluated,
    Event,
    Finished,
    Interrupted,
    MicroBatchReduced,
    Retried,
    Started,
    StepCompleted,
    StepSkipped,
    Stopped,
)
from bertft.utils.messages import format_list
from bertft.utils.metric_names import overall_metrics
from bertft.utils.numbers import format_count, format_duration, format_score
from bertft.utils.terminal import escape_controls

__all__ = [
    "LogFile",
    "describe_evaluation",
    "describe_event",
]


_MAX_ROWS = 8  # locations of rows per line


def describe_event(event: Event) -> str | None:
    """An event as one line of text; None for an event that is not logged."""
    step = format_count(event.step)
    match event:
        case Started():
            total_steps = format_count(event.total_steps)
            plan = (
                f"{format_count(event.steps_per_epoch)} per epoch, {format_count(event.rows)} rows"
            )
            if event.step == 0:
                return f"training: {total_steps} steps, {plan}"
            return f"resuming after step {step} of {total_steps}, {plan}"
        case MicroBatchReduced():
            count = format_count(event.micro_batch)
            return (
                f"out of memory after step {step}: micro-batches now have {count} sequences; the"
                " number of sequences per step stays the same"
            )
        case StepSkipped():
            locations = format_list(event.locations, _MAX_ROWS)
            return f"step {step} was not applied: {event.reason} (rows: {locations})"
        case Evaluated():
            return "  ".join([f"step {step}", *describe_evaluation(event)])
        case Collapsed():
            return f"step {step}: the run may have collapsed: {event.reason}. {event.advice}"
        case Retried():
            place = f"the checkpoint of step {step}" if event.step else "the start"
            return (
                f"step {format_count(event.collapsed_step)}: training returns to {place} and"
                f" continues with {event.rate_factor:g} of the learning rate"
            )
        case Checkpointed():
            return f"step {step}: checkpoint {event.path.name} saved"
        case Finished():
            if event.reason == "done":
                return f"done after {step} steps"
            return f"stopped early after {step} steps: no improvement (trainer.patience)"
        case Interrupted():
            return f"interrupted by {signal.Signals(event.signum).name} after step {step}"
        case Stopped():
            total_steps = format_count(event.total_steps)
            return f"stopped after step {step} of {total_steps} (trainer.stop_at)"
    return None


def describe_evaluation(event: Evaluated) -> list[str]:
    """The items of a line about an evaluation, the most important ones first."""
    metric = event.metric
    status = " best" if event.best else ""
    if not event.eligible:
        status = f" ({event.ineligible_reason}: not a candidate for best)"
    items = [f"epoch {event.epoch:.2f}", f"{metric} {format_score(event.metrics[metric])}{status}"]
    if event.split != "validation":
        items.insert(1, event.split)
    names = [name for name in overall_metrics(event.metrics, metric) if name != metric]
    names.sort(key=lambda name: name != "loss")
    items += [f"{name} {format_score(event.metrics[name])}" for name in names]
    return [*items, f"in {format_duration(event.seconds)}"]


_TIMESTAMP = "%Y-%m-%d %H:%M:%S"


class LogFile:
    """A callback that appends events to ``path``, but steps only every ``every`` seconds.

    ``write_line`` appends other text. Raises OSError if the file cannot be written.
    """

    def __init__(
        self, path: Path, every: float = 10.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        # A path in a message may have bytes that are not valid UTF-8: they must not end the run.
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
        """Write ``text`` with a timestamp; lines after the first are indented."""
        timestamp = datetime.now().astimezone().strftime(_TIMESTAMP)
        first, *further_lines = escape_controls(text).splitlines() or [""]
        indent = " " * len(timestamp)
        body = "".join(f"{indent}  {line}\n" for line in further_lines)
        self._file.write(f"{timestamp}  {first}\n{body}")
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> LogFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
