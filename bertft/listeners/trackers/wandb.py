"""Weights & Biases. WANDB_PROJECT names the project (bertft), WANDB_MODE how it is sent.

Without a mode and without a key nothing is asked for: the run is kept offline, for ``wandb sync``.
A run that goes on keeps its id; offline it writes a second file, which sync joins to the first.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from bertft.listeners.trackers import tracker

__all__ = ["Tracker"]


class Tracker(tracker.Tracker):
    """Files in ``<run>/tracking/wandb``."""

    package = "wandb"
    _run: Any

    def open(self, step: int) -> None:
        import wandb

        mode: Any = os.environ.get("WANDB_MODE")
        if mode is None and not wandb.setup().settings.api_key:
            mode = "offline"
        known = self.remembered()
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "bertft"),
            name=self.run.name,
            id=known,
            resume="allow" if known else None,
            dir=str(self.folder),
            config=dict(self.settings),
            mode=mode,
        )
        self.remember(self._run.id)

    def write(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def end(self, finished: bool) -> None:
        self._run.finish(exit_code=0 if finished else 1)
