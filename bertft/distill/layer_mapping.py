"""Map the S layers of a student to the L layers of a teacher. Layers are numbered from 0.

cut       student i is initialized from teacher round(i · (L − 1) / (S − 1)), halves down:
          the first and the last layer are included. 12 → 6 gives 0, 2, 4, 7, 9, 11, the layers
          that DistilBERT is initialized from
uniform   student i is compared with teacher round((i + 1) · L / S) − 1, halves down
last      student i is compared with teacher L − S + i
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


LayerPair = tuple[int, int]  # (index in the student, index in the teacher)


@dataclass(frozen=True)
class ComparedStates:
    """The states of student and teacher that the losses compare.

    Attributes:
        hidden: pairs of hidden states; 0 is the output of the embeddings.
        attention: pairs of layers.
        relation: the one pair of layers whose relations are compared.
        relation_heads: number of heads into which the states of ``relation`` are split.
    """

    hidden: tuple[LayerPair, ...] = ()
    attention: tuple[LayerPair, ...] = ()
    relation: LayerPair | None = None
    relation_heads: int = 0

    def make_recorders(self) -> tuple[ActivationRecorder, ActivationRecorder] | None:
        """Recorders for one forward pass of student and teacher; None if no states are compared."""
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
    """The states that the losses with a weight above 0 compare in two transformers models.

    Raises:
        UsageError: the models do not have these states, or their shapes do not match.
    """
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
                hint="Set it to 0, and method.distill.relation_weight above 0, which supports"
                " different numbers of heads",
            )
    relation, heads = None, 0
    if settings.relation_weight:
        last_layer = teacher_family.layers - 1
        layer = last_layer if settings.relation_layer is None else settings.relation_layer
        if layer > last_layer:
            raise UsageError(
                f"the teacher has no layer {layer}",
                where="method.distill.relation_layer",
                hint=f"Set it to a layer from 0 to {last_layer}",
            )
        heads = settings.relation_heads or int(teacher.config.num_attention_heads)
        relation = (student_family.layers - 1, layer)
        for family in (student_family, teacher_family):
            if family.kv_width % heads:
                raise UsageError(
                    f"the key dimension {family.kv_width} of a {family.model_type} model is not"
                    f" divisible by {heads} heads",
                    where="method.distill.relation_heads",
                    hint=f"Set it to a number that divides both {student_family.kv_width} and"
                    f" {teacher_family.kv_width}",
                )
    attention = tuple(pairs) if settings.attention_weight else ()
    return ComparedStates(tuple(hidden), attention, relation, heads)


def _check_interface(settings: DistillConfig, *families: EncoderFamily) -> None:
    for name in ("attention_weight", "relation_weight"):
        for family in families:
            if getattr(settings, name) and not family.uses_attention_interface:
                raise UsageError(
                    f"the attention states of a {family.model_type} model are not accessible",
                    where=f"method.distill.{name}",
                    hint="Set it to 0; method.distill.hidden_weight is supported",
                )


def select_teacher_layers(selection: Any, layer_count: int) -> list[int]:
    """The teacher's layers that a student is initialized from.

    Args:
        selection: number of layers, or a list of them.
        layer_count: number of layers of the teacher.

    Raises:
        UsageError: the teacher does not have these layers.
    """
    where = "method.distill.student_layers"
    if isinstance(selection, list):
        _check_layer_numbers(selection, layer_count, where)
        return list(selection)
    if not 1 <= selection <= layer_count:
        raise UsageError(
            f"{selection} layers cannot be selected from the teacher's {layer_count}",
            where=where,
            hint=f"Set it to a number from 1 to {layer_count}",
        )
    return [
        _round_half_down(number * (layer_count - 1), selection - 1) for number in range(selection)
    ]


def map_layers(mapping: Any, student_layers: int, teacher_layers: int) -> list[int]:
    """The teacher's layer for each layer of the student. UsageError if ``mapping`` is invalid."""
    where = "method.distill.layer_map"
    if isinstance(mapping, list):
        _check_layer_numbers(mapping, teacher_layers, where)
        if len(mapping) != student_layers:
            raise UsageError(
                f"has {len(mapping)} layers, but the student has {student_layers}",
                where=where,
                hint="List one layer of the teacher for each layer of the student",
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
            hint="Set it to uniform or to a list of layers",
        )
    return [teacher_layers - student_layers + number for number in range(student_layers)]


def _check_layer_numbers(numbers: list[int], layer_count: int, where: str) -> None:
    too_high = [number for number in numbers if number >= layer_count]
    if too_high:
        raise UsageError(
            f"the teacher has no layer {too_high[0]}",
            where=where,
            hint=f"Choose layers from 0 to {layer_count - 1}",
        )


def _round_half_down(dividend: int, divisor: int) -> int:
    """Round dividend / divisor to the nearest integer, halves down; 0 if the divisor is 0."""
    return -((divisor - 2 * dividend) // (2 * divisor)) if divisor else 0
