"""Rules of the settings that name runs, adapters and checkpoints."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

from bertft.config.rules.data import check_class_names
from bertft.config.schema import GetSetting
from bertft.config.task_facts import join_words, tasks_with
from bertft.utils.messages import Problem

__all__ = [
    "check_checkpoint_name",
    "check_compared_runs",
    "check_dry_run",
    "check_eval_model",
    "check_export_format",
    "check_merged_model",
    "check_merged_prefix",
    "check_opened_model",
    "check_resume",
]


_NO_RUNS = "has no effect without runs, the runs to average"
_NO_RUNS_HINT = "Set runs=[<run>,<run>], or leave it out"


def check_checkpoint_name(get: GetSetting) -> Iterator[Problem]:
    """``checkpoint`` of eval, merge, export and predict."""
    name = get("checkpoint")
    if not re.fullmatch(r"best|last|\d+", name):
        yield Problem(
            "checkpoint", f"{name!r} is not a checkpoint", "It can be best, last or a step number"
        )


def check_dry_run(get: GetSetting) -> Iterator[Problem]:
    """A dry run is for a new run."""
    if get("check") and get("resume") is not None:
        yield Problem("check", "is not supported together with resume", "Leave out one of them")


def check_resume(get: GetSetting) -> Iterator[Problem]:
    """The run to resume must exist; auto needs none."""
    run = get("resume")
    if run not in (None, "auto") and not Path(run).is_dir():
        yield Problem(
            "resume", f"there is no folder {run}", "Set resume to a run folder, or to auto"
        )


def check_compared_runs(get: GetSetting) -> Iterator[Problem]:
    """``runs`` of compare: a folder or a list of folders."""
    runs = get("runs")
    folders = runs if isinstance(runs, list) else [runs]
    if not folders or not all(isinstance(folder, (str, int)) and str(folder) for folder in folders):
        yield Problem(
            "runs", f"{runs!r} is not a list of folders", "Write runs=[outputs/a,outputs/b]"
        )


def check_opened_model(get: GetSetting) -> Iterator[Problem]:
    """A command opens either a run or an adapter; ``base`` belongs to an adapter."""
    run, adapter = get("run"), get("adapter")
    if run in (None, "") and adapter in (None, ""):
        yield Problem("run", "is missing", "Set run=<run folder> or adapter=<folder>")
    elif run is not None and adapter is not None:
        yield Problem("run", "cannot be combined with adapter", "Set only one of them")
    yield from _check_adapter_base(get)
    labels = get("labels")
    if isinstance(labels, dict):
        yield Problem(
            "labels", "is a mapping, not a list", "List the class names in the order of the outputs"
        )
    elif labels is not None:
        yield from check_class_names("labels", labels, as_mapping=False)


def check_merged_model(get: GetSetting) -> Iterator[Problem]:
    """merge and export take a run, an adapter, or several runs to average."""
    runs = get("runs")
    if runs is None:
        yield from check_opened_model(get)
        for name, default in (("how", "mean"), ("seed", 0)):
            if get(name) != default:
                yield Problem(name, _NO_RUNS, _NO_RUNS_HINT)
        return
    folders = runs if isinstance(runs, list) else [runs]
    if not folders or not all(isinstance(folder, (str, int)) and str(folder) for folder in folders):
        yield Problem(
            "runs", f"{runs!r} is not a list of folders", "Write runs=[outputs/a,outputs/b]"
        )
        return
    for name in ("run", "adapter", "base", "task", "labels"):
        if get(name) is not None:
            yield Problem(name, "cannot be combined with runs", "Set only one of them")
    same_folders = [
        (first, second)
        for first, second in itertools.combinations(map(str, folders), 2)
        if Path(first).expanduser().resolve() == Path(second).expanduser().resolve()
    ]
    for first, second in same_folders:
        other_name = f" ({first} and {second})" if first != second else ""
        yield Problem("runs", f"{first} is listed twice{other_name}", "List each run once")


def check_merged_prefix(get: GetSetting) -> Iterator[Problem]:
    """The prefixes of several runs are not averaged."""
    if get("runs") is not None and get("prefix") == "separate":
        yield Problem(
            "prefix", "separate is not supported with runs", "Average runs without a prefix"
        )


def check_export_format(get: GetSetting) -> Iterator[Problem]:
    """An adapter already is in peft's format; an average of runs can only be an adapter."""
    if get("runs") is None and get("rank") is not None:
        yield Problem("rank", _NO_RUNS, _NO_RUNS_HINT)
    if get("runs") is not None and get("format") == "onnx":
        yield Problem(
            "format",
            "onnx is not supported with runs",
            "Average them first: bertft merge runs=[<run>,<run>] out=<folder>, then bertft export"
            " <folder> <graph> format=onnx",
        )
    if get("format") == "peft" and get("adapter") is not None:
        yield Problem(
            "format", "the adapter already is in peft's format", "Use format=onnx or bertft merge"
        )


def check_eval_model(get: GetSetting) -> Iterator[Problem]:
    """eval scores either a model or a file of predictions."""
    predictions = get("predictions")
    models = {name: value for name in ("run", "adapter") if (value := get(name)) is not None}
    if predictions is None:
        if not any(models.values()):
            yield Problem(
                "run",
                "is missing",
                "Set run=<run, merged folder or transformers folder> or adapter=<folder>",
            )
        elif len(models) > 1:
            yield Problem("run", "cannot be combined with adapter", "Set only one of them")
        yield from _check_adapter_base(get)
        return
    for name in models:
        yield Problem(name, "cannot be combined with predictions", "Set only one of them")
    if get("data") is None:
        yield Problem(
            "data",
            "is missing: it is required by predictions",
            "Set data, as in data=squad_v2",
        )
    elif get("data.task") not in (tasks := tasks_with("score_predictions")):
        yield Problem(
            "predictions",
            f"are not supported by data.task={get('data.task')}",
            f"Set data=squad_v2, or data.task={join_words(tasks, 'or')}",
        )


def _check_adapter_base(get: GetSetting) -> Iterator[Problem]:
    if get("base") is not None and get("adapter") is None:
        yield Problem("base", "is only supported together with adapter", "Set adapter=<folder>")
