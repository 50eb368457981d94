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

__all__ = ["Tracker"]

_PATIENCE = 20.0  # seconds for the server, unless WANDB_INIT_TIMEOUT says otherwise


class Tracker(tracker.Tracker):
    """Files in ``<run>/tracking/wandb``."""

    package = "wandb"
    _run: Any

    def open(self, step: int) -> None:
        import wandb

        mode = os.environ.get("WANDB_MODE")
        if mode is not None:
            self._run = self._begun(mode)
        elif not _has_key(wandb.setup().settings):
            self._run = self._begun("offline")
        else:
            try:
                self._run = self._begun("online")
            except wandb.errors.Error:
                self._run = self._begun("offline")
        self.remember(self._run.id)

    def _begun(self, mode: Any) -> Any:
        import wandb

        known = self.remembered()
        return wandb.init(
            project=os.environ.get("WANDB_PROJECT", "bertft"),
            name=self.run.name,
            id=known,
            resume="allow" if known else None,
            dir=str(self.folder),
            config=dict(self.settings),
            mode=mode,
            settings=wandb.Settings(
                init_timeout=float(os.environ.get("WANDB_INIT_TIMEOUT", _PATIENCE))
            ),
        )

    def write(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def end(self, finished: bool) -> None:
        self._run.finish(exit_code=0 if finished else 1)


def _has_key(settings: Any) -> bool:
    """Whether an account is known. What ``wandb login`` leaves in .netrc is in no setting."""
    if settings.api_key:
        return True
    try:
        known = netrc.netrc(os.environ.get("NETRC"))
    except (OSError, netrc.NetrcParseError):
        return False
    hosts = ("api.wandb.ai", urlparse(str(settings.base_url)).netloc)
    return any(known.authenticators(host) for host in hosts)
