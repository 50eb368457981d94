"""A teacher whose answers, and maybe inner states, the student learns beside the labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bertft.config.setting import MAX_LEARNING_RATE, setting

__all__ = ["DistillConfig"]


@dataclass
class DistillConfig:
    """``method.distill``"""

    teacher: str | None = setting(
        None, "A run of any method, a transformers folder with the task's head, or a Hub id."
    )
    student_layers: Any = setting(
        None,
        "Cut the student from the teacher: a number of layers, or a list of them from 0, as in "
        "[0,2,5]; embeddings and head are the teacher's. Null: the student is model=.",
    )
    weight: float = setting(
        0.5, "Weight λ of the teacher's soft answers; 0: none are asked for.", at_least=0
    )
    hard_weight: float | None = setting(
        None, "Weight of the labels' own loss; null: 1 − weight, at least 0.", at_least=0
    )
    temperature: float = setting(
        2.0,
        "T that softens both models' probabilities; their loss is multiplied by T².",
        at_least=0.01,
        at_most=100,
    )
    hidden_weight: float = setting(
        0.0, "Weight of the hidden states' squared error, layer by layer.", at_least=0
    )
    attention_weight: float = setting(
        0.0, "Weight of the attention scores' squared error (TinyBERT).", at_least=0
    )
    relation_weight: float = setting(
        0.0, "Weight of the last layer's query, key and value relations (MiniLM).", at_least=0
    )
    layer_map: Any = setting(
        "uniform",
        "Teacher's layer of each student's: uniform, last (the top ones), or a list from 0.",
    )
    relation_heads: int | None = setting(
        None, "Heads that relations are cut into; null: the teacher's attention heads.", at_least=1
    )
    relation_layer: int | None = setting(
        None, "Teacher's layer, from 0, of the relations; null: its last.", at_least=0
    )
    learning_rate: float = setting(
        1e-3,
        "Peak learning rate of the projections between unlike widths.",
        above=0,
        at_most=MAX_LEARNING_RATE,
    )
    cache: str = setting(
        "disk",
        "The teacher's answers: disk, computed once for all runs; memory: once a run; off: at "
        "every step.",
        choices=("disk", "memory", "off"),
    )
