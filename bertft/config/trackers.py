"""The names of the trackers: the modules of ``bertft/listeners/trackers``, found unimported."""

from __future__ import annotations

import pkgutil
from pathlib import Path

__all__ = ["tracker_names"]

_TRACKERS_FOLDER = Path(__file__).parents[1] / "listeners" / "trackers"
_BASE_MODULE = "tracker"


def tracker_names() -> tuple[str, ...]:
    """Names that ``trainer.trackers`` admits, in alphabetical order."""
    modules = pkgutil.iter_modules([str(_TRACKERS_FOLDER)])
    return tuple(sorted(m.name for m in modules if not m.ispkg and m.name != _BASE_MODULE))
