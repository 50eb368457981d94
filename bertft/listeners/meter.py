"""The state of a run as one looks at it: smoothed loss, speed, time left.

    smoothed x_t = Σ_i βᵗ⁻ⁱ x_i / Σ_i βᵗ⁻ⁱ          β = 0.95 over the steps of this process

Speed is smoothed rows (or tokens) over smoothed seconds of a step, evaluations aside. Time left
is what the steps that are left take at that speed, with the share of evaluations and saves that
the steps so far had.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from bertft.formats.figures import clock as left
from bertft.formats.figures import compact, count, measure, rate, score, size
from bertft.listeners.memory import memory_in_use
from bertft.training.events import Evaluated, Event, Started, Step

__all__ = ["Item", "Meter"]

_BETA = 0.95


@dataclass(frozen=True)
class Item:
    """``label value unit``, such as "loss 0.3121" or "812 rows/s"."""

    label: str
    value: str
    unit: str = ""

    def __str__(self) -> str:
        return " ".join(part for part in (self.label, self.value, self.unit) if part)


class _Smooth:
    def __init__(self) -> None:
        self._sum = self._weight = 0.0

    def add(self, value: float) -> None:
        self._sum = _BETA * self._sum + value
        self._weight = _BETA * self._weight + 1.0

    @property
    def value(self) -> float | None:
        return self._sum / self._weight if self._weight else None


class Meter:
    """A listener that only looks. ``best`` is the best value that a resumed run brings along."""

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
        self._last: float | None = None
        self._loss, self._rows, self._tokens, self._seconds = (_Smooth() for _ in range(4))
        self._newest: Step | None = None
        self._start = self._updated = clock()
        self._steps, self._stepping = 0, 0.0
        self._left: float | None = None

    def __call__(self, event: Event) -> None:
        match event:
            case Started():
                self.step, self.total = event.step, event.total_steps
                self.epoch = event.step / max(1, event.steps_per_epoch)
                self._start = self._updated = self._clock()
            case Step():
                self.step, self.epoch, self._newest = event.step, event.epoch, event
                self._loss.add(event.loss)
                self._rows.add(event.rows)
                self._tokens.add(event.tokens)
                self._seconds.add(event.seconds)
                self._steps += 1
                self._stepping += event.seconds
                self._estimate()
            case Evaluated():
                self._metric, self._last = event.metric, event.metrics[event.metric]
                if event.best:
                    self._best = self._last
                self._estimate()
            case _:
                self.step = max(self.step, event.step)

    @property
    def elapsed(self) -> float:
        """Seconds since this process started to train."""
        return self._clock() - self._start

    @property
    def seconds_left(self) -> float | None:
        """None before there is anything to judge by."""
        if self._left is None:
            return None
        return max(0.0, self._left - (self._clock() - self._updated))

    def items(self) -> list[Item]:
        """What there is to show, the more important first; the parts' measures come last."""
        newest = self._newest
        items = [Item("epoch", f"{self.epoch:.2f}")]
        if newest is not None:
            items.append(Item("loss", score(self._loss.value)))
        if self._last is not None:
            items.append(Item(self._metric, score(self._last)))
        if self._best is not None:
            items.append(Item("best", score(self._best)))
        if newest is not None:
            items.append(Item("lr", _rates(newest.learning_rates)))
            seconds = self._seconds.value
            if seconds:
                rows, tokens = self._rows.value or 0.0, self._tokens.value or 0.0
                items.append(Item("", compact(rows / seconds), "rows/s"))
                items.append(Item("", compact(tokens / seconds), "tokens/s"))
        held = self._memory()
        if held is not None:
            items.append(Item("", size(held), "memory"))
        if newest is not None:
            for name, value in newest.measures.items():
                items.append(Item(_plain(name), measure(value)))
        return items

    def line(self) -> str:
        """All of it in one line, however long."""
        parts = [f"step {count(self.step)}/{count(self.total)}", *map(str, self.items())]
        if self.seconds_left is not None:
            parts.append(f"{left(self.seconds_left)} left")
        return "  ".join(parts)

    def _estimate(self) -> None:
        self._updated = self._clock()
        a_step = self._seconds.value
        if a_step is None:
            return
        beside = max(0.0, self._updated - self._start - self._stepping) / self._steps
        self._left = (self.total - self.step) * (a_step + beside)


def _rates(rates: dict[str, float]) -> str:
    """One rate, or the smallest and the largest of those that differ."""
    values = sorted(set(rates.values()))
    if not values:
        return rate(None)
    ends = dict.fromkeys([rate(values[0]), rate(values[-1])])
    return "–".join(ends)


def _plain(name: str) -> str:
    """``low_rank/mean_rank`` → ``mean rank``."""
    return name.replace("/", ".").rpartition(".")[2].replace("_", " ")
