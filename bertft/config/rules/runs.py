"""Runs and checkpoints that cannot be meant."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from bertft.config.messages import Problem
from bertft.config.rules.get import Get

__all__ = ["check", "checkpoint", "resume"]


def checkpoint(get: Get) -> Iterator[Problem]:
    """``checkpoint`` of eval, merge and predict."""
    name = get("checkpoint")
    if not re.fullmatch(r"best|last|\d+", name):
        yield Problem("checkpoint", f"{name!r} is none", "It can be best, last or a step number")


def check(get: Get) -> Iterator[Problem]:
    """A trial is of a run that would begin."""
    if get("check") and get("resume") is not None:
        yield Problem(
            "check", "tries a run that begins, and resume goes on with one", "Leave one out"
        )


def resume(get: Get) -> Iterator[Problem]:
    """A run to go on with must be there; auto looks for itself."""
    run = get("resume")
    if run not in (None, "auto") and not Path(run).is_dir():
        yield Problem("resume", f"there is no folder {run}", "Give a run folder, or auto")
