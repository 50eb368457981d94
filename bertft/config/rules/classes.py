"""Losses, temperatures and thresholds of tasks that have none of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bertft.config import class_weights
from bertft.config.class_weights import class_key
from bertft.config.messages import Problem
from bertft.config.registry import TASKS
from bertft.config.rules.get import Get, default
from bertft.config.tasks import in_words, tasks_with

__all__ = ["RULES"]

_TASKS = tasks_with("class_probabilities")
_SHAPES = ("class_weights", "label_smoothing", "focal_gamma")


def _loss(get: Get) -> Iterator[Problem]:
    """Nothing shapes the loss of a task without classes of its own, or one that has no weight."""
    task = get("data.task")
    asked = [f"loss.{name}" for name in _SHAPES if get(f"loss.{name}") != default(f"loss.{name}")]
    if task not in (None, *_TASKS):
        for path in asked:
            yield Problem(
                path, f"means nothing for task={task}",
                f"Leave it out: it is for {in_words(_TASKS)}",
            )  # fmt: skip
    elif asked and _soft_alone(get):
        yield Problem(
            asked[0], "means nothing where the labels have no weight beside the teacher",
            "Leave it out, or lower method.distill.weight",
        )  # fmt: skip


def _soft_alone(get: Get) -> bool:
    weight, hard = get("method.distill.weight"), get("method.distill.hard_weight")
    if not get("method.distill.teacher") or weight is None:
        return False
    return hard == 0 if hard is not None else weight >= 1


def _weights(get: Get) -> Iterator[Problem]:
    labels = get("data.labels")
    listed = labels.values() if isinstance(labels, dict) else labels
    listed = listed if isinstance(labels, (list, dict)) else None
    # A mapping may give several labels one class.
    names = list(dict.fromkeys(map(class_key, listed))) if listed is not None else None
    yield from class_weights.problems(get("loss.class_weights"), names)


def _temperature(get: Get) -> Iterator[Problem]:
    task = get("data.task")
    if get("calibrate") is not None and task not in (None, *_TASKS):
        yield Problem(
            "calibrate", f"means nothing for task={task}",
            f"Leave it out: it is for the probabilities of {in_words(_TASKS)}",
        )  # fmt: skip


def _threshold(get: Get) -> Iterator[Problem]:
    task, labels = get("data.task"), get("data.labels")
    if not get("tune_threshold"):
        return
    if task not in (None, *_TASKS):
        yield Problem(
            "tune_threshold", f"means nothing for task={task}",
            "Leave it out: it is for two classes, or multi_label",
        )  # fmt: skip
    elif _one_class(task) and labels and (count := _count(labels)) not in (None, 2):
        yield Problem(
            "tune_threshold", f"means nothing for {count} classes, of which the likeliest"
            " is given", "Leave it out: it is for two classes, or multi_label",
        )  # fmt: skip


def _one_class(task: Any) -> bool:
    return task in TASKS and TASKS[task].label == "class"


def _count(labels: Any) -> int | None:
    """How many classes data.labels names."""
    if isinstance(labels, dict):
        return len({class_key(each) for each in labels.values()})
    return len(labels) if isinstance(labels, list) else None


RULES = (_loss, _weights, _temperature, _threshold)
