"""Teacher beside student: who is better, how much smaller and faster, how often they agree."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from bertft.assembly.adapted import Adapted
from bertft.assembly.teacher import Hired
from bertft.data.table import FeatureTable
from bertft.training.evaluate import evaluate, outputs_of

__all__ = ["compare", "warn_if_below"]


def warn_if_below(
    hired: Hired, student: Adapted, table: FeatureTable, warn: Callable[[str], None]
) -> None:
    """Warn of a teacher that is worse than the student before its first step."""
    task = student.task
    assert hired.scores is not None
    start = evaluate(student.runner, task, table, student.precision)[task.metric]
    taught = hired.scores[task.metric]
    if task.better(start, taught):
        tuned = " (its tuned threshold is not used here)" if hired.tuned else ""
        warn(
            f"the teacher {hired.path} has {task.metric} {taught:.4f} on validation{tuned}, worse"
            f" than the student's {start:.4f} before its first step"
        )


def compare(hired: Hired, student: Adapted, table: FeatureTable) -> dict[str, Any]:
    """For metrics.json, over the validation ``table``; bytes are those of fp32 weights."""
    assert hired.validation is not None and hired.scores is not None
    task, start = student.task, time.perf_counter()
    outputs = outputs_of(student.runner, task, table, student.precision)
    speed = len(table) / max(time.perf_counter() - start, 1e-9)
    own = sum(each.numel() for each in student.model.parameters())
    sides = {
        "teacher": (hired.scores[task.metric], hired.parameters, hired.speed),
        "student": (task.all_metrics(outputs, table)[task.metric], own, speed),
    }
    result: dict[str, Any] = {
        name: {
            "value": value,
            "parameters": parameters,
            "bytes": 4 * parameters,
            "rows_per_second": rate,
        }
        for name, (value, parameters, rate) in sides.items()
    }
    result["teacher"] |= {"path": hired.path, "validation": hired.scores}
    return {
        "metric": task.metric,
        **result,
        "agreement": task.agreement(outputs, hired.validation, table),
        "forwards": hired.forwards(),
    }
