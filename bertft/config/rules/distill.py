"""Distillation without a teacher, or of nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bertft.config.choices import LAYER_MAPS
from bertft.config.schema import GetSetting, default_value
from bertft.utils.messages import Problem

__all__ = ["DISTILL_RULES"]

_NODE = "method.distill"
_TEACHER_WEIGHTS = ("weight", "hidden_weight", "attention_weight", "relation_weight")
_INTERNAL_WEIGHTS = _TEACHER_WEIGHTS[1:]


def _check_teacher(get: GetSetting) -> Iterator[Problem]:
    if get(f"{_NODE}.weight") is None:
        return
    weights = {name: get(f"{_NODE}.{name}") for name in (*_TEACHER_WEIGHTS, "hard_weight")}
    active_weights = [name for name in _TEACHER_WEIGHTS if weights[name]]
    if not active_weights and weights["hard_weight"] is not None:
        yield Problem(
            f"{_NODE}.hard_weight",
            "means nothing where nothing is learnt from a teacher",
            "Leave it out, or give a weight above 0",
        )
    if get(f"{_NODE}.teacher") is not None:
        return
    if active_weights:
        yield Problem(
            f"{_NODE}.teacher",
            f"is missing: {active_weights[0]}={weights[active_weights[0]]:g} needs it",
            "Give a run, a transformers folder or a Hub id; weight=0 trains without",
        )
    elif get(f"{_NODE}.student_layers") is not None:
        yield Problem(
            f"{_NODE}.teacher", "is missing: the student is cut from it", "Give a run or a folder"
        )


def _check_layers(get: GetSetting) -> Iterator[Problem]:
    student_layers, layer_map = get(f"{_NODE}.student_layers"), get(f"{_NODE}.layer_map")
    if (
        student_layers is not None
        and not _is_count(student_layers)
        and not _are_layers(student_layers, strict=True)
    ):
        yield Problem(
            f"{_NODE}.student_layers",
            f"{student_layers!r} names no layers",
            "Give their number, or an ascending list from 0, as in [0,2,5]",
        )
    if layer_map is not None and layer_map not in LAYER_MAPS and not _are_layers(layer_map):
        yield Problem(
            f"{_NODE}.layer_map",
            f"{layer_map!r} is no map of layers",
            "Take uniform, last, or a list from 0 with a layer for each of the student's",
        )


def _check_unused_settings(get: GetSetting) -> Iterator[Problem]:
    """Settings of a loss whose weight is 0."""
    if get(f"{_NODE}.weight") is None:
        return
    required_weights = {
        "layer_map": ("hidden_weight", "attention_weight"),
        "relation_heads": ("relation_weight",),
        "relation_layer": ("relation_weight",),
    }
    for name, weights in required_weights.items():
        path = f"{_NODE}.{name}"
        if get(path) != default_value(path) and not any(
            get(f"{_NODE}.{weight_name}") for weight_name in weights
        ):
            yield Problem(
                path,
                f"means nothing with {' and '.join(weights)} 0",
                f"Leave it out, or give {_NODE}.{weights[0]}",
            )
    active_weights = [name for name in _INTERNAL_WEIGHTS if get(f"{_NODE}.{name}")]
    if active_weights and get(f"{_NODE}.cache") == "memory":
        yield Problem(
            f"{_NODE}.cache",
            f"memory means nothing with {active_weights[0]}: the teacher runs at each step",
            "Leave it out",
        )


def _check_unlabelled(get: GetSetting) -> Iterator[Problem]:
    if get("data.unlabelled") is not None and not get(f"{_NODE}.weight"):
        yield Problem(
            "data.unlabelled",
            "means nothing without a teacher: nobody says what is right",
            "Add method.distill.teacher=<run>, or leave it out",
        )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _are_layers(value: Any, strict: bool = False) -> bool:
    if not isinstance(value, list) or not value:
        return False
    if not all(
        isinstance(index, int) and not isinstance(index, bool) and index >= 0 for index in value
    ):
        return False
    return not strict or value == sorted(set(value))


DISTILL_RULES = (_check_teacher, _check_layers, _check_unused_settings, _check_unlabelled)
