"""Teacher beside student: who is better, how much smaller and faster, how often they agree."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from bertft.assembly.adapted import TaskModel
from bertft.assembly.teacher import TeacherContext
from bertft.data.table import FeatureTable
from bertft.training.evaluate import evaluate, evaluation_outputs

__all__ = ["compare_with_teacher", "warn_if_teacher_is_worse"]


def warn_if_teacher_is_worse(
    teacher: TeacherContext, student: TaskModel, table: FeatureTable, warn: Callable[[str], None]
) -> None:
    """Warn of a teacher that is worse than the student before its first step."""
    task = student.task
    assert teacher.metrics is not None
    student_value = evaluate(student.runner, task, table, student.precision)[task.metric]
    teacher_value = teacher.metrics[task.metric]
    if task.is_better(student_value, teacher_value):
        tuned = " (its tuned threshold is not used here)" if teacher.tuned else ""
        warn(
            f"the teacher {teacher.path} has {task.metric} {teacher_value:.4f} on validation{tuned}, worse"
            f" than the student's {student_value:.4f} before its first step"
        )


def compare_with_teacher(teacher: TeacherContext, student: TaskModel, table: FeatureTable) -> dict[str, Any]:
    """For metrics.json, over the validation ``table``; bytes are those of fp32 weights."""
    assert teacher.validation_outputs is not None and teacher.metrics is not None
    task, start = student.task, time.perf_counter()
    outputs = evaluation_outputs(student.runner, task, table, student.precision)
    speed = len(table) / max(time.perf_counter() - start, 1e-9)
    student_parameters = sum(each.numel() for each in student.model.parameters())
    sides = {
        "teacher": (teacher.metrics[task.metric], teacher.parameter_count, teacher.rows_per_second),
        "student": (task.compute_all_metrics(outputs, table)[task.metric], student_parameters, speed),
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
    result["teacher"] |= {"path": teacher.path, "validation": teacher.metrics}
    return {
        "metric": task.metric,
        **result,
        "agreement": task.prediction_agreement(outputs, teacher.validation_outputs, table),
        "forwards": teacher.count_forwards(),
    }
