"""Runs and checkpoints that cannot be meant."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from bertft.config.messages import Problem
from bertft.config.rules.get import Get

__all__ = ["check", "checkpoint", "resume", "scored", "several"]


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


def several(get: Get) -> Iterator[Problem]:
    """``runs`` of compare: a folder, or a list of them."""
    runs = get("runs")
    each = runs if isinstance(runs, list) else [runs]
    if not each or not all(isinstance(one, (str, int)) and str(one) for one in each):
        yield Problem("runs", f"{runs!r} names no folders", "As in runs=[outputs/a,outputs/b]")


def scored(get: Get) -> Iterator[Problem]:
    """eval scores either a model or answers from elsewhere."""
    run, predictions = get("run"), get("predictions")
    if predictions is None:
        if run in (None, ""):
            yield Problem(
                "run", "is missing", "A run folder, or one of a merged or plain transformers model"
            )
        return
    if run is not None:
        yield Problem("run", "and predictions both say what to score", "Give one of them")
    if get("data") is None:
        yield Problem("data", "is missing: the answers need questions", "As in data=squad_v2")
    elif get("data.task") != "question_answering":
        yield Problem(
            "predictions", f"cannot be answers to data.task={get('data.task')}",
            "They are of question_answering: take data=squad_v2, or set data.task",
        )  # fmt: skip
