"""Distillation without a teacher, or of nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bertft.config.choices import LAYER_MAPS
from bertft.config.messages import Problem
from bertft.config.rules.get import Get, default

__all__ = ["RULES"]

_NODE = "method.distill"
_TAUGHT = ("weight", "hidden_weight", "attention_weight", "relation_weight")
_INNER = _TAUGHT[1:]


def _teacher(get: Get) -> Iterator[Problem]:
    if get(f"{_NODE}.weight") is None:
        return
    weights = {name: get(f"{_NODE}.{name}") for name in (*_TAUGHT, "hard_weight")}
    asked = [name for name in _TAUGHT if weights[name]]
    if not asked and weights["hard_weight"] is not None:
        yield Problem(
            f"{_NODE}.hard_weight", "means nothing where nothing is learnt from a teacher",
            "Leave it out, or give a weight above 0",
        )  # fmt: skip
    if get(f"{_NODE}.teacher") is not None:
        return
    if asked:
        yield Problem(
            f"{_NODE}.teacher", f"is missing: {asked[0]}={weights[asked[0]]:g} needs it",
            "Give a run, a transformers folder or a Hub id; weight=0 trains without",
        )  # fmt: skip
    elif get(f"{_NODE}.student_layers") is not None:
        yield Problem(
            f"{_NODE}.teacher", "is missing: the student is cut from it", "Give a run or a folder"
        )


def _layers(get: Get) -> Iterator[Problem]:
    wanted, mapped = get(f"{_NODE}.student_layers"), get(f"{_NODE}.layer_map")
    if wanted is not None and not _is_count(wanted) and not _are_layers(wanted, strict=True):
        yield Problem(
            f"{_NODE}.student_layers", f"{wanted!r} names no layers",
            "Give their number, or an ascending list from 0, as in [0,2,5]",
        )  # fmt: skip
    if mapped is not None and mapped not in LAYER_MAPS and not _are_layers(mapped):
        yield Problem(
            f"{_NODE}.layer_map", f"{mapped!r} is no map of layers",
            "Take uniform, last, or a list from 0 with a layer for each of the student's",
        )  # fmt: skip


def _idle(get: Get) -> Iterator[Problem]:
    """Settings of a loss whose weight is 0."""
    if get(f"{_NODE}.weight") is None:
        return
    needs = {
        "layer_map": ("hidden_weight", "attention_weight"),
        "relation_heads": ("relation_weight",),
        "relation_layer": ("relation_weight",),
    }
    for name, weights in needs.items():
        path = f"{_NODE}.{name}"
        if get(path) != default(path) and not any(get(f"{_NODE}.{each}") for each in weights):
            yield Problem(
                path, f"means nothing with {' and '.join(weights)} 0",
                f"Leave it out, or give {_NODE}.{weights[0]}",
            )  # fmt: skip
    live = [name for name in _INNER if get(f"{_NODE}.{name}")]
    if live and get(f"{_NODE}.cache") == "memory":
        yield Problem(
            f"{_NODE}.cache", f"memory means nothing with {live[0]}: the teacher runs at each step",
            "Leave it out",
        )  # fmt: skip


def _unlabelled(get: Get) -> Iterator[Problem]:
    if get("data.unlabelled") is not None and not get(f"{_NODE}.weight"):
        yield Problem(
            "data.unlabelled", "means nothing without a teacher: nobody says what is right",
            "Add method.distill.teacher=<run>, or leave it out",
        )  # fmt: skip


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _are_layers(value: Any, strict: bool = False) -> bool:
    if not isinstance(value, list) or not value:
        return False
    if not all(
        isinstance(each, int) and not isinstance(each, bool) and each >= 0 for each in value
    ):
        return False
    return not strict or value == sorted(set(value))


RULES = (_teacher, _layers, _idle, _unlabelled)
