"""What a tracker is told, under which names.

    train/loss, penalty, gradient_norm, learning_rate/<group>, rows_per_second, tokens_per_second,
    and the parts' measures            every ``log_every`` steps
    validation/<metric>                after each evaluation

One module a tracker, class ``Tracker``; it opens with the first event, so that whatever is wrong
with it is found where a listener is guarded. What it must know again when the run goes on lies in
``<run>/tracking/<name>/``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from bertft.config.regular_file import read_regular_text
from bertft.errors import DataError
from bertft.runs.atomic import atomic_write_text
from bertft.training.events import Evaluated, Event, Finished, Started, StepCompleted

__all__ = ["Tracker"]


class Tracker(ABC):
    """``run`` is the run's folder, ``folder`` the tracker's own; ``settings``: name → text."""

    package: ClassVar[str]  # what must be installed

    def __init__(
        self, run: Path, folder: Path, settings: Mapping[str, str], log_every: int
    ) -> None:
        self.run, self.folder, self.settings, self.log_every = run, folder, settings, log_every
        self._is_open, self._finished, self._total_steps = False, False, 0
        self.__name__ = type(self).__module__.rpartition(".")[2]  # what a warning calls it

    def __call__(self, event: Event) -> None:
        if isinstance(event, Started):
            self.folder.mkdir(parents=True, exist_ok=True)
            self.start(event.step)
            self._is_open, self._total_steps = True, event.total_steps
        elif isinstance(event, StepCompleted):
            if event.step % self.log_every == 0 or event.step == self._total_steps:
                self._log_finite(_step_metrics(event), event.step)
        elif isinstance(event, Evaluated):
            values = {f"{event.split}/{name}": value for name, value in event.metrics.items()}
            self._log_finite(values, event.step)
        elif isinstance(event, Finished):
            self._finished = True

    def close(self) -> None:
        """Say goodbye; a run that was interrupted may go on."""
        if self._is_open:
            self._is_open = False
            self.finish(self._finished)

    @abstractmethod
    def start(self, step: int) -> None:
        """Begin, or go on with the same one: the run has taken ``step`` steps."""

    @abstractmethod
    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        """Finite numbers by name."""

    @abstractmethod
    def finish(self, finished: bool) -> None:
        """Nothing more comes from this process."""

    def load_run_id(self) -> str | None:
        """The name under which the tracker knows the run since an earlier process."""
        try:
            return read_regular_text(self.folder / "id", 1 << 10).strip() or None
        except DataError:
            return None

    def save_run_id(self, name: str) -> None:
        atomic_write_text(self.folder / "id", f"{name}\n")

    def _log_finite(self, values: Mapping[str, float], step: int) -> None:
        self.log_metrics({name: float(v) for name, v in values.items() if math.isfinite(v)}, step)


def _step_metrics(event: StepCompleted) -> dict[str, float]:
    values = {
        "loss": event.loss,
        "penalty": event.penalty,
        "gradient_norm": event.gradient_norm,
        "epoch": event.epoch,
        **{f"learning_rate/{name}": learning_rate for name, learning_rate in event.learning_rates.items()},
        **event.metrics,
    }
    if event.seconds > 0:
        values["rows_per_second"] = event.rows / event.seconds
        values["tokens_per_second"] = event.tokens / event.seconds
    return {f"train/{name}": value for name, value in values.items()}
