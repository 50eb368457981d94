"""Rules of ``method.distill``."""

from __future__ import annotations

import os
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
            "has no effect without a loss on the teacher's outputs",
            f"Leave it out, or set {_NODE}.weight above 0",
        )
    teacher = get(f"{_NODE}.teacher")
    if teacher is not None:
        names = teacher if isinstance(teacher, list) else [teacher]
        if not names or not all(isinstance(name, str) and name for name in names):
            yield Problem(
                f"{_NODE}.teacher",
                f"{teacher!r} is not a teacher or a list of teachers",
                "Use a run, a transformers folder or a Hub id, or a list as in [run1,run2]",
            )
        elif len({os.path.normpath(name) for name in names}) < len(names):
            yield Problem(f"{_NODE}.teacher", "a teacher is listed twice", "List each one once")
        return
    if active_weights:
        yield Problem(
            f"{_NODE}.teacher",
            "is missing: it is required by"
            f" {_NODE}.{active_weights[0]}={weights[active_weights[0]]:g}",
            f"Set {_NODE}.teacher=<run, transformers folder or Hub id>, or train without a teacher"
            f" with {' and '.join(f'{_NODE}.{name}=0' for name in active_weights)}",
        )
    elif get(f"{_NODE}.student_layers") is not None:
        yield Problem(
            f"{_NODE}.teacher",
            f"is missing: it is required by {_NODE}.student_layers",
            f"Set {_NODE}.teacher=<run, transformers folder or Hub id>",
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
            f"{student_layers!r} is not a number or list of layers",
            "Use a number, or an ascending list of indices from 0, as in [0,2,5]",
        )
    if layer_map is not None and layer_map not in LAYER_MAPS and not _are_layers(layer_map):
        yield Problem(
            f"{_NODE}.layer_map",
            f"{layer_map!r} is not a layer map",
            "Use uniform, last, or a list with a teacher layer (from 0) per student layer",
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
                f"has no effect with {' and '.join(f'{_NODE}.{weight}=0' for weight in weights)}",
                f"Leave it out, or set {_NODE}.{weights[0]} above 0",
            )
    active_weights = [name for name in _INTERNAL_WEIGHTS if get(f"{_NODE}.{name}")]
    # Of several teachers, only the first one gives inner states, and the others are cached.
    has_one_teacher = not isinstance(get(f"{_NODE}.teacher"), list)
    runs_always = active_weights and has_one_teacher and not get(f"{_NODE}.inner_fraction")
    if runs_always and get(f"{_NODE}.cache") == "memory":
        yield Problem(
            f"{_NODE}.cache",
            f"memory has no effect with {_NODE}.{active_weights[0]}: the teacher runs at every"
            " step",
            "Leave it out",
        )


def _check_unlabelled(get: GetSetting) -> Iterator[Problem]:
    weight = get(f"{_NODE}.weight")
    if get("data.unlabelled") is None or weight:
        return
    if weight is None:
        yield Problem(
            "data.unlabelled",
            "is not supported without a teacher, which provides the targets",
            "Add method.distill.teacher=<run>, or leave it out",
        )
    else:
        yield Problem(
            "data.unlabelled",
            f"is not supported by {_NODE}.weight=0: rows without labels have only the teacher's"
            " outputs as targets",
            f"Leave it out, or set {_NODE}.weight above 0",
        )


def _check_stages(get: GetSetting) -> Iterator[Problem]:
    path = f"{_NODE}.inner_fraction"
    if not get(path):
        return
    if not any(get(f"{_NODE}.{name}") for name in _INTERNAL_WEIGHTS):
        yield Problem(
            path,
            "requires a loss on inner states for the first stage",
            f"Add {_NODE}.hidden_weight=1, {_NODE}.attention_weight=1 or {_NODE}.relation_weight=1",
        )
    if not get(f"{_NODE}.weight") and get(f"{_NODE}.hard_weight") == 0:
        yield Problem(
            path,
            "requires a loss on outputs or labels for the second stage",
            f"Set {_NODE}.weight or {_NODE}.hard_weight above 0",
        )


def _check_augmentation(get: GetSetting) -> Iterator[Problem]:
    augment, probability = f"{_NODE}.augment", f"{_NODE}.augment_probability"
    if get(augment) and not get(f"{_NODE}.weight"):
        yield Problem(
            augment,
            f"has no effect with {_NODE}.weight=0: copies have no labels, only the teacher's"
            " outputs as targets",
            f"Leave it out, or set {_NODE}.weight above 0",
        )
    if get(augment) == 0 and get(probability) != default_value(probability):
        yield Problem(
            probability, f"has no effect with {augment}=0", f"Leave it out, or set {augment}=4"
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


DISTILL_RULES = (
    _check_teacher,
    _check_layers,
    _check_unused_settings,
    _check_unlabelled,
    _check_stages,
    _check_augmentation,
)
