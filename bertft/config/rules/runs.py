"""Runs and checkpoints that cannot be meant."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from bertft.config.rules.data import check_class_names
from bertft.config.schema import GetSetting
from bertft.utils.messages import Problem

__all__ = [
    "check_checkpoint_name",
    "check_compared_runs",
    "check_dry_run",
    "check_eval_model",
    "check_export_format",
    "check_opened_model",
    "check_resume",
]


def check_checkpoint_name(get: GetSetting) -> Iterator[Problem]:
    """``check_checkpoint_name`` of eval, merge and predict."""
    name = get("checkpoint")
    if not re.fullmatch(r"best|last|\d+", name):
        yield Problem("checkpoint", f"{name!r} is none", "It can be best, last or a step number")


def check_dry_run(get: GetSetting) -> Iterator[Problem]:
    """A trial is of a run that would begin."""
    if get("check") and get("resume") is not None:
        yield Problem(
            "check", "tries a run that begins, and resume goes on with one", "Leave one out"
        )


def check_resume(get: GetSetting) -> Iterator[Problem]:
    """A run to go on with must be there; auto looks for itself."""
    run = get("resume")
    if run not in (None, "auto") and not Path(run).is_dir():
        yield Problem("resume", f"there is no folder {run}", "Give a run folder, or auto")


def check_compared_runs(get: GetSetting) -> Iterator[Problem]:
    """``runs`` of compare: a folder, or a list of them."""
    runs = get("runs")
    folders = runs if isinstance(runs, list) else [runs]
    if not folders or not all(isinstance(folder, (str, int)) and str(folder) for folder in folders):
        yield Problem("runs", f"{runs!r} names no folders", "As in runs=[outputs/a,outputs/b]")


def check_opened_model(get: GetSetting) -> Iterator[Problem]:
    """A command opens a run or an adapter; ``base`` is an adapter's."""
    run, adapter = get("run"), get("adapter")
    if run in (None, "") and adapter in (None, ""):
        yield Problem("run", "is missing", "A run folder, or adapter=<folder> of an adapter")
    elif run is not None and adapter is not None:
        yield Problem("run", "and adapter both say what to open", "Give one of them")
    yield from _check_adapter_base(get)
    labels = get("labels")
    if isinstance(labels, dict):
        yield Problem("labels", "is a mapping, not a list", "List the names of the outputs")
    elif labels is not None:
        yield from check_class_names("labels", labels)


def check_export_format(get: GetSetting) -> Iterator[Problem]:
    """An adapter has peft's form already."""
    if get("format") == "peft" and get("adapter") is not None:
        yield Problem(
            "format", "peft is the form that the adapter has", "Take format=onnx, or bertft merge"
        )


def check_eval_model(get: GetSetting) -> Iterator[Problem]:
    """eval scores either a model or answers from elsewhere."""
    predictions = get("predictions")
    given_sources = {name: value for name in ("run", "adapter") if (value := get(name)) is not None}
    if predictions is None:
        if not any(given_sources.values()):
            yield Problem(
                "run",
                "is missing",
                "A run folder, one of a merged or plain transformers model, or adapter=<folder>",
            )
        elif len(given_sources) > 1:
            yield Problem("run", "and adapter both say what to score", "Give one of them")
        yield from _check_adapter_base(get)
        return
    for name in given_sources:
        yield Problem(name, "and predictions both say what to score", "Give one of them")
    if get("data") is None:
        yield Problem("data", "is missing: the answers need questions", "As in data=squad_v2")
    elif get("data.task") != "question_answering":
        yield Problem(
            "predictions",
            f"cannot be answers to data.task={get('data.task')}",
            "They are of question_answering: take data=squad_v2, or set data.task",
        )


def _check_adapter_base(get: GetSetting) -> Iterator[Problem]:
    if get("base") is not None and get("adapter") is None:
        yield Problem("base", "is that of an adapter, and none is given", "Give adapter=<folder>")
