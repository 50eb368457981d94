"""Which of a teacher's L layers stand for which of a student's S. Layers count from 0.

cut       round(i · (L − 1) / (S − 1)), halves down: first and last among them.
          12 → 6 gives 0, 2, 4, 7, 9, 11, which DistilBERT starts from
uniform   student i ↔ teacher round((i + 1) · L / S) − 1, halves down
last      student i ↔ teacher L − S + i
"""

from __future__ import annotations

from typing import Any

from bertft.errors import UsageError

__all__ = ["chosen_layers", "layer_map"]


def chosen_layers(wanted: Any, layers: int) -> list[int]:
    """The teacher's layers that a student is made of; ``wanted``: how many, or a list.

    Raises UsageError for layers that the teacher does not have.
    """
    where = "method.distill.student_layers"
    if isinstance(wanted, list):
        _check(wanted, layers, where)
        return list(wanted)
    if not 1 <= wanted <= layers:
        raise UsageError(
            f"{wanted} layers cannot be cut from the teacher's {layers}", where=where,
            hint=f"Give 1 to {layers}",
        )  # fmt: skip
    return [_round(number * (layers - 1), wanted - 1) for number in range(wanted)]


def layer_map(wanted: Any, student: int, teacher: int) -> list[int]:
    """The teacher's layer for each of the student's. UsageError if there is no such map."""
    where = "method.distill.layer_map"
    if isinstance(wanted, list):
        _check(wanted, teacher, where)
        if len(wanted) != student:
            raise UsageError(
                f"{len(wanted)} layers for the student's {student}", where=where,
                hint="Name one of the teacher's layers for each of the student's",
            )  # fmt: skip
        return list(wanted)
    if wanted == "uniform":
        return [max(1, _round((i + 1) * teacher, student)) - 1 for i in range(student)]
    if student > teacher:
        raise UsageError(
            f"the student has {student} layers and the teacher {teacher}", where=where,
            hint="Take uniform, or a list",
        )  # fmt: skip
    return [teacher - student + number for number in range(student)]


def _check(wanted: list[int], layers: int, where: str) -> None:
    beyond = [number for number in wanted if number >= layers]
    if beyond:
        raise UsageError(
            f"the teacher has no layer {beyond[0]}", where=where,
            hint=f"Its layers are 0 to {layers - 1}",
        )  # fmt: skip


def _round(dividend: int, divisor: int) -> int:
    """dividend / divisor to the nearest whole number, halves down."""
    return -((divisor - 2 * dividend) // (2 * divisor)) if divisor else 0
