"""Weights & Biases. WANDB_PROJECT names the project (bertft), WANDB_MODE how it is sent.

Without a mode nothing is asked for and nothing is waited for long: without a key (WANDB_API_KEY, or
.netrc as ``wandb login`` writes it), or where the server is not reached, the run is kept offline,
for ``wandb sync``. A run that goes on keeps its id; offline it writes a second file, which sync
joins to the first.
"""

from __future__ import annotations

import netrc
import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlparse

from bertft.listeners.trackers import tracker

__all__ = ["WandbTracker"]

_INIT_TIMEOUT = 20.0  # seconds for the server, unless WANDB_INIT_TIMEOUT says otherwise


class WandbTracker(tracker.Tracker):
    """Files in ``<run>/tracking/wandb``."""

    package = "wandb"
    _run: Any

    def start(self, step: int) -> None:
        import wandb

        mode = os.environ.get("WANDB_MODE")
        if mode is not None:
            self._run = self._start_run(mode)
        elif not _has_key(wandb.setup().settings):
            self._run = self._start_run("offline")
        else:
            try:
                self._run = self._start_run("online")
            except wandb.errors.Error:
                self._run = self._start_run("offline")
        self.save_run_id(self._run.id)

    def _start_run(self, mode: Any) -> Any:
        import wandb

        saved_run_id = self.load_run_id()
        return wandb.init(
            project=os.environ.get("WANDB_PROJECT", "bertft"),
            name=self.run.name,
            id=saved_run_id,
            resume="allow" if saved_run_id else None,
            dir=str(self.folder),
            config=dict(self.settings),
            mode=mode,
            settings=wandb.Settings(
                init_timeout=float(os.environ.get("WANDB_INIT_TIMEOUT", _INIT_TIMEOUT))
            ),
        )

    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def finish(self, finished: bool) -> None:
        self._run.finish(exit_code=0 if finished else 1)


def _has_key(settings: Any) -> bool:
    """Whether an account is known. What ``wandb login`` leaves in .netrc is in no setting."""
    if settings.api_key:
        return True
    try:
        credentials = netrc.netrc(os.environ.get("NETRC"))
    except (OSError, netrc.NetrcParseError):
        return False
    hosts = ("api.wandb.ai", urlparse(str(settings.base_url)).netloc)
    return any(credentials.authenticators(host) for host in hosts)
