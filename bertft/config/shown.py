"""Settings of what is shown and to whom, which change no result; a new one is named here alone."""

from __future__ import annotations

__all__ = ["DISPLAY_SETTINGS"]

DISPLAY_SETTINGS = ("quiet", "report", "trainer.trackers")
