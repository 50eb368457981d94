"""TensorBoard: ``tensorboard --logdir outputs`` shows every run that has it on.

A run that goes on writes into the same folder; what was logged after its checkpoint is purged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bertft.listeners.trackers import tracker

__all__ = ["TensorBoardTracker"]


class TensorBoardTracker(tracker.Tracker):
    """Event files in ``<run>/tracking/tensorboard``."""

    package = "tensorboard"
    _writer: Any

    def start(self, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(self.folder), purge_step=step + 1 if step else None)
        if step == 0:
            lines = [f"    {name}: {value}" for name, value in self.settings.items()]
            self._writer.add_text("config", "\n".join(lines))

    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def finish(self, finished: bool) -> None:
        self._writer.close()
