"""Which of a teacher's L layers stand for which of a student's S. Layers count from 0.

cut       round(i · (L − 1) / (S − 1)), halves down: first and last among them.
          12 → 6 gives 0, 2, 4, 7, 9, 11, which DistilBERT starts from
uniform   student i ↔ teacher round((i + 1) · L / S) − 1, halves down
last      student i ↔ teacher L − S + i
"""

from __future__ import annotations

from typing import Any

from bertft.errors import UsageError

__all__ = ["select_teacher_layers", "map_layers"]


def select_teacher_layers(selection: Any, layer_count: int) -> list[int]:
    """The teacher's layers that a student is made of; ``selection``: how many, or a list.

    Raises UsageError for layers that the teacher does not have.
    """
    where = "method.distill.student_layers"
    if isinstance(selection, list):
        _check_layer_numbers(selection, layer_count, where)
        return list(selection)
    if not 1 <= selection <= layer_count:
        raise UsageError(
            f"{selection} layers cannot be cut from the teacher's {layer_count}", where=where,
            hint=f"Give 1 to {layer_count}",
        )  # fmt: skip
    return [_round_half_down(number * (layer_count - 1), selection - 1) for number in range(selection)]


def map_layers(mapping: Any, student_layers: int, teacher_layers: int) -> list[int]:
    """The teacher's layer for each of the student's. UsageError if there is no such map."""
    where = "method.distill.layer_map"
    if isinstance(mapping, list):
        _check_layer_numbers(mapping, teacher_layers, where)
        if len(mapping) != student_layers:
            raise UsageError(
                f"{len(mapping)} layers for the student's {student_layers}", where=where,
                hint="Name one of the teacher's layers for each of the student's",
            )  # fmt: skip
        return list(mapping)
    if mapping == "uniform":
        return [max(1, _round_half_down((i + 1) * teacher_layers, student_layers)) - 1 for i in range(student_layers)]
    if student_layers > teacher_layers:
        raise UsageError(
            f"the student has {student_layers} layers and the teacher {teacher_layers}", where=where,
            hint="Take uniform, or a list",
        )  # fmt: skip
    return [teacher_layers - student_layers + number for number in range(student_layers)]


def _check_layer_numbers(numbers: list[int], layer_count: int, where: str) -> None:
    too_high = [number for number in numbers if number >= layer_count]
    if too_high:
        raise UsageError(
            f"the teacher has no layer {too_high[0]}", where=where,
            hint=f"Its layers are 0 to {layer_count - 1}",
        )  # fmt: skip


def _round_half_down(dividend: int, divisor: int) -> int:
    """dividend / divisor to the nearest whole number, halves down."""
    return -((divisor - 2 * dividend) // (2 * divisor)) if divisor else 0
