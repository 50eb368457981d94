"""Which of a teacher's L layers stand for which of a student's S. Layers count from 0.

cut       round(i · (L − 1) / (S − 1)), halves down: first and last among them.
          12 → 6 gives 0, 2, 4, 7, 9, 11, which DistilBERT starts from
uniform   student i ↔ teacher round((i + 1) · L / S) − 1, halves down
last      student i ↔ teacher L − S + i
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bertft.config.method_components.distill import DistillConfig
from bertft.errors import UsageError
from bertft.models.families import EncoderFamily, encoder_family
from bertft.models.forward_state import ActivationRecorder

__all__ = [
    "ComparedStates",
    "map_layers",
    "match_states",
    "select_teacher_layers",
]


LayerPair = tuple[int, int]  # the student's number, the teacher's


@dataclass(frozen=True)
class ComparedStates:
    """``hidden``: pairs of states; ``attention``, ``relation``: pairs of layers, from 0."""

    hidden: tuple[LayerPair, ...] = ()
    attention: tuple[LayerPair, ...] = ()
    relation: LayerPair | None = None
    relation_heads: int = 0  # of the relations

    def make_recorders(self) -> tuple[ActivationRecorder, ActivationRecorder] | None:
        """What a pass of the student and of the teacher shall leave; None: nothing."""
        pairs = [*self.attention, *([self.relation] if self.relation else [])]
        if not pairs and not self.hidden:
            return None
        student_layers, teacher_layers = (
            frozenset(pair[side] for pair in pairs) for side in (0, 1)
        )
        record_hidden = bool(self.hidden)
        return ActivationRecorder(student_layers, record_hidden), ActivationRecorder(
            teacher_layers, record_hidden
        )


def match_states(settings: DistillConfig, student: Any, teacher: Any) -> ComparedStates:
    """What the weights above 0 ask for, of two transformers models. UsageError if it cannot be."""
    student_family, teacher_family = encoder_family(student), encoder_family(teacher)
    if not (settings.hidden_weight or settings.attention_weight or settings.relation_weight):
        return ComparedStates()
    pairs = list(
        enumerate(map_layers(settings.layer_map, student_family.layers, teacher_family.layers))
    )
    hidden = [(0, 0), *((s + 1, t + 1) for s, t in pairs)] if settings.hidden_weight else []
    _check_interface(settings, student_family, teacher_family)
    if settings.attention_weight:
        head_counts = [model.config.num_attention_heads for model in (student, teacher)]
        if head_counts[0] != head_counts[1]:
            raise UsageError(
                f"the student has {head_counts[0]} attention heads and the teacher"
                f" {head_counts[1]}",
                where="method.distill.attention_weight",
                hint="Take relation_weight, whose heads may differ",
            )
    relation, heads = None, 0
    if settings.relation_weight:
        last_layer = teacher_family.layers - 1
        layer = last_layer if settings.relation_layer is None else settings.relation_layer
        if layer > last_layer:
            raise UsageError(
                f"the teacher has no layer {layer}",
                where="method.distill.relation_layer",
                hint=f"Its layers are 0 to {last_layer}",
            )
        heads = settings.relation_heads or int(teacher.config.num_attention_heads)
        relation = (student_family.layers - 1, layer)
        for family in (student_family, teacher_family):
            if family.kv_width % heads:
                raise UsageError(
                    f"{heads} heads do not divide a width of {family.kv_width}",
                    where="method.distill.relation_heads",
                    hint=f"Give a number that divides both {student_family.kv_width} and"
                    f" {teacher_family.kv_width}",
                )
    attention = tuple(pairs) if settings.attention_weight else ()
    return ComparedStates(tuple(hidden), attention, relation, heads)


def _check_interface(settings: DistillConfig, *families: EncoderFamily) -> None:
    for name in ("attention_weight", "relation_weight"):
        for family in families:
            if getattr(settings, name) and not family.uses_attention_interface:
                raise UsageError(
                    f"the attention of a {family.model_type} model cannot be looked into",
                    where=f"method.distill.{name}",
                    hint="Set it to 0; hidden_weight works",
                )


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
            f"{selection} layers cannot be cut from the teacher's {layer_count}",
            where=where,
            hint=f"Give 1 to {layer_count}",
        )
    return [
        _round_half_down(number * (layer_count - 1), selection - 1) for number in range(selection)
    ]


def map_layers(mapping: Any, student_layers: int, teacher_layers: int) -> list[int]:
    """The teacher's layer for each of the student's. UsageError if there is no such map."""
    where = "method.distill.layer_map"
    if isinstance(mapping, list):
        _check_layer_numbers(mapping, teacher_layers, where)
        if len(mapping) != student_layers:
            raise UsageError(
                f"{len(mapping)} layers for the student's {student_layers}",
                where=where,
                hint="Name one of the teacher's layers for each of the student's",
            )
        return list(mapping)
    if mapping == "uniform":
        return [
            max(1, _round_half_down((i + 1) * teacher_layers, student_layers)) - 1
            for i in range(student_layers)
        ]
    if student_layers > teacher_layers:
        raise UsageError(
            f"the student has {student_layers} layers and the teacher {teacher_layers}",
            where=where,
            hint="Take uniform, or a list",
        )
    return [teacher_layers - student_layers + number for number in range(student_layers)]


def _check_layer_numbers(numbers: list[int], layer_count: int, where: str) -> None:
    too_high = [number for number in numbers if number >= layer_count]
    if too_high:
        raise UsageError(
            f"the teacher has no layer {too_high[0]}",
            where=where,
            hint=f"Its layers are 0 to {layer_count - 1}",
        )


def _round_half_down(dividend: int, divisor: int) -> int:
    """dividend / divisor to the nearest whole number, halves down."""
    return -((divisor - 2 * dividend) // (2 * divisor)) if divisor else 0
