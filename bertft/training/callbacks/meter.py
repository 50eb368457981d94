"""Status of a run for progress display and log: smoothed loss, throughput, remaining time.

    smoothed x_t   = Σ_i βᵗ⁻ⁱ x_i / Σ_i βᵗ⁻ⁱ         β = 0.95 over the steps of this process
    remaining time = remaining steps · (smoothed seconds per step + mean overhead per step)

Throughput is smoothed rows (or tokens) divided by smoothed seconds per step. The overhead consists
of evaluations and checkpoints.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from bertft.training.events import Evaluated, Event, Finished, Retried, Started, StepCompleted
from bertft.training.memory import memory_in_use
from bertft.utils.numbers import (
    format_bytes,
    format_clock,
    format_compact,
    format_count,
    format_number,
    format_rate,
    format_score,
)

__all__ = ["ProgressMeter", "StatusItem"]

_BETA = 0.95


@dataclass(frozen=True)
class StatusItem:
    """``label value unit``, such as "loss 0.3121" or "812 rows/s"."""

    label: str
    value: str
    unit: str = ""

    def __str__(self) -> str:
        return " ".join(text for text in (self.label, self.value, self.unit) if text)


class _ExponentialAverage:
    def __init__(self) -> None:
        self._sum = self._weight = 0.0

    def add(self, value: float) -> None:
        self._sum = _BETA * self._sum + value
        self._weight = _BETA * self._weight + 1.0

    @property
    def value(self) -> float | None:
        return self._sum / self._weight if self._weight else None


class ProgressMeter:
    """A callback that computes the status of a run.

    Args:
        best: value of the best evaluation of a resumed run.
        clock: returns the time in seconds.
        memory: returns the memory in use in bytes, or None.
    """

    def __init__(
        self,
        best: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        memory: Callable[[], int | None] = memory_in_use,
    ) -> None:
        self.step = self.total = 0
        self.epoch = 0.0
        self._clock, self._memory = clock, memory
        self._best, self._metric = best, ""
        self._last_value: float | None = None
        self._loss, self._rows, self._tokens, self._seconds = (
            _ExponentialAverage() for _ in range(4)
        )
        self._last_step: StepCompleted | None = None
        self._started_at = self._estimated_at = clock()
        self._steps_seen, self._seconds_in_steps = 0, 0.0
        self._estimated_seconds_left: float | None = None
        self._is_finished = False

    def __call__(self, event: Event) -> None:
        match event:
            case Started():
                self.step, self.total = event.step, event.total_steps
                self.epoch = event.step / max(1, event.steps_per_epoch)
                self._started_at = self._estimated_at = self._clock()
            case StepCompleted():
                self.step, self.epoch, self._last_step = event.step, event.epoch, event
                self._loss.add(event.loss)
                self._rows.add(event.rows)
                self._tokens.add(event.tokens)
                self._seconds.add(event.seconds)
                self._steps_seen += 1
                self._seconds_in_steps += event.seconds
                self._estimate_time_left()
            case Evaluated():
                self._metric, self._last_value = event.metric, event.metrics[event.metric]
                if event.best:
                    self._best = self._last_value
                self._estimate_time_left()
            case Retried():
                self.step, self._best = event.step, event.best
            case _:
                self.step = max(self.step, event.step)
                self._is_finished = isinstance(event, Finished)

    @property
    def elapsed(self) -> float:
        """Seconds since this process started to train."""
        return self._clock() - self._started_at

    @property
    def seconds_left(self) -> float | None:
        """Estimated remaining seconds; None before the first step of this process."""
        if self._estimated_seconds_left is None:
            return None
        return max(0.0, self._estimated_seconds_left - (self._clock() - self._estimated_at))

    @property
    def time_text(self) -> str:
        """The remaining time; without an estimate the elapsed time, at the end the total time."""
        if self._is_finished or (self.total and self.step >= self.total):
            return f"{format_clock(self.elapsed)} total"
        if self.seconds_left is None:
            return f"{format_clock(self.elapsed)} elapsed"
        return f"{format_clock(self.seconds_left)} left"

    def items(self) -> list[StatusItem]:
        """The items to display, the most important first, the metrics of the components last."""
        last_step = self._last_step
        items = [StatusItem("epoch", f"{self.epoch:.2f}")]
        if last_step is not None:
            items.append(StatusItem("loss", format_score(self._loss.value)))
        if self._last_value is not None:
            items.append(StatusItem(self._metric, format_score(self._last_value)))
        if self._best is not None:
            items.append(StatusItem("best", format_score(self._best)))
        if last_step is not None:
            items.append(StatusItem("lr", _learning_rate_text(last_step.learning_rates)))
            seconds = self._seconds.value
            if seconds:
                rows, tokens = self._rows.value or 0.0, self._tokens.value or 0.0
                items.append(StatusItem("", format_compact(rows / seconds), "rows/s"))
                items.append(StatusItem("", format_compact(tokens / seconds), "tokens/s"))
        memory_bytes = self._memory()
        if memory_bytes is not None:
            items.append(StatusItem("", format_bytes(memory_bytes), "memory"))
        if last_step is not None:
            for name, value in last_step.metrics.items():
                items.append(StatusItem(_metric_label(name), format_number(value)))
        return items

    def summary_line(self) -> str:
        """Step, all items and remaining time in one line."""
        texts = [
            f"step {format_count(self.step)}/{format_count(self.total)}",
            *map(str, self.items()),
        ]
        if self.seconds_left is not None:
            texts.append(f"{format_clock(self.seconds_left)} left")
        return "  ".join(texts)

    def _estimate_time_left(self) -> None:
        self._estimated_at = self._clock()
        seconds_per_step = self._seconds.value
        if seconds_per_step is None:
            return
        overhead_per_step = (
            max(0.0, self._estimated_at - self._started_at - self._seconds_in_steps)
            / self._steps_seen
        )
        self._estimated_seconds_left = (self.total - self.step) * (
            seconds_per_step + overhead_per_step
        )


def _learning_rate_text(learning_rates: dict[str, float]) -> str:
    """The learning rate, or the smallest and the largest one if they differ."""
    values = sorted(set(learning_rates.values()))
    if not values:
        return format_rate(None)
    extremes = dict.fromkeys([format_rate(values[0]), format_rate(values[-1])])
    return "–".join(extremes)


def _metric_label(name: str) -> str:
    """``low_rank/mean_rank`` → ``mean rank``."""
    return name.replace("/", ".").rpartition(".")[2].replace("_", " ")
