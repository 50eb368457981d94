"""Rules of the settings of tasks with class probabilities: loss, calibration, thresholds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bertft.config import class_weights
from bertft.config.class_weights import normalize_class_name
from bertft.config.registry import TASKS
from bertft.config.schema import GetSetting, default_value
from bertft.config.task_facts import join_words, tasks_with
from bertft.utils.messages import Problem

__all__ = ["CLASS_RULES"]

_CLASS_TASKS = tasks_with("class_probabilities")
_SET_TASKS = tasks_with("prediction_sets")
_MULTI_LABEL_TASKS = tuple(name for name in _CLASS_TASKS if TASKS[name].label == "classes")
_LOSS_SETTINGS = ("class_weights", "label_smoothing", "focal_gamma")


def _check_loss(get: GetSetting) -> Iterator[Problem]:
    """``loss`` needs a task with class probabilities, and a loss on the labels of weight > 0."""
    task = get("data.task")
    changed_settings = [
        f"loss.{name}"
        for name in _LOSS_SETTINGS
        if get(f"loss.{name}") != default_value(f"loss.{name}")
    ]
    if task not in (None, *_CLASS_TASKS):
        for path in changed_settings:
            yield Problem(
                path,
                f"is not supported by data.task={task}",
                f"Leave it out. It is for {join_words(_CLASS_TASKS)}",
            )
    elif changed_settings and _ignores_labels(get):
        is_explicit = get("method.distill.hard_weight") is not None
        change = (
            "set method.distill.hard_weight above 0"
            if is_explicit
            else "set method.distill.weight below 1"
        )
        yield Problem(
            changed_settings[0],
            "has no effect: the loss on the labels has weight 0",
            f"Leave it out, or {change}",
        )


def _ignores_labels(get: GetSetting) -> bool:
    weight, hard_weight = get("method.distill.weight"), get("method.distill.hard_weight")
    if not get("method.distill.teacher") or weight is None:
        return False
    return hard_weight == 0 if hard_weight is not None else weight >= 1


def _check_class_weights(get: GetSetting) -> Iterator[Problem]:
    labels = get("data.labels")
    class_names = labels.values() if isinstance(labels, dict) else labels
    class_names = class_names if isinstance(labels, (list, dict)) else None
    # A mapping can assign several labels to one class.
    names = (
        list(dict.fromkeys(map(normalize_class_name, class_names)))
        if class_names is not None
        else None
    )
    yield from class_weights.class_weight_problems(get("loss.class_weights"), names)


def _check_calibration(get: GetSetting) -> Iterator[Problem]:
    task, calibrate = get("data.task"), get("calibrate")
    supported = _SET_TASKS if calibrate == "conformal" else _CLASS_TASKS
    if calibrate is not None and task not in (None, *supported):
        yield Problem(
            "calibrate" if calibrate == "temperature" else f"calibrate={calibrate}",
            f"is not supported by data.task={task}",
            f"Leave it out. It is for {join_words(supported)}",
        )
    if calibrate != "conformal" and get("coverage") != default_value("coverage"):
        yield Problem(
            "coverage",
            "has no effect without prediction sets",
            "Add calibrate=conformal, or leave it out",
        )


def _check_threshold(get: GetSetting) -> Iterator[Problem]:
    task, labels = get("data.task"), get("data.labels")
    if not get("tune_threshold"):
        return
    if task not in (None, *_CLASS_TASKS):
        yield Problem(
            "tune_threshold",
            f"is not supported by data.task={task}",
            f"Leave it out. It is for two classes, or {join_words(_MULTI_LABEL_TASKS, 'or')}",
        )
    elif _is_single_label(task) and labels and (count := _count_classes(labels)) not in (None, 2):
        yield Problem(
            "tune_threshold",
            f"is not supported with {count} classes",
            f"Leave it out. It is for two classes, or {join_words(_MULTI_LABEL_TASKS, 'or')}",
        )


def _is_single_label(task: Any) -> bool:
    return task in TASKS and TASKS[task].label == "class"


def _count_classes(labels: Any) -> int | None:
    """The number of classes in data.labels; None if it is not a list or mapping."""
    if isinstance(labels, dict):
        return len({normalize_class_name(name) for name in labels.values()})
    return len(labels) if isinstance(labels, list) else None


CLASS_RULES = (_check_loss, _check_class_weights, _check_calibration, _check_threshold)
