"""Trackers, one file each, found by name: a run's numbers in somebody else's views.

trackers(names, run, config)    listeners, each with ``close``; UsageError for a missing package
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bertft.config.flat import flatten_settings
from bertft.errors import UsageError
from bertft.listeners.trackers.tracker import Tracker

__all__ = ["check_tracker_packages", "build_trackers"]


def check_tracker_packages(names: Sequence[str]) -> None:
    """UsageError, before anything is trained, unless what each tracker needs is installed."""
    for name in names:
        package = _tracker_class(name).package
        if importlib.util.find_spec(package) is None:
            raise UsageError(
                f"{name} needs the package {package}, which is not installed",
                where="trainer.trackers", hint='It comes with pip install "bertft[tracking]"',
            )  # fmt: skip


def build_trackers(names: Sequence[str], run: Path, config: Any) -> list[Tracker]:
    """Of the run in the folder ``run``; nothing is opened before the first event."""
    return [
        _tracker_class(name)(run, run / "tracking" / name, flatten_settings(config), config.trainer.log_every)
        for name in names
    ]


def _tracker_class(name: str) -> type[Tracker]:
    return importlib.import_module(f"{__name__}.{name}").Tracker
