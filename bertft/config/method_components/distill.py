"""``method.distill``: knowledge distillation from a teacher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bertft.config.setting import MAX_LEARNING_RATE, setting

__all__ = ["DistillConfig"]


@dataclass
class DistillConfig:
    """Knowledge distillation: a teacher's outputs and hidden states as additional targets."""

    teacher: Any = setting(
        None,
        "Teacher: a run of any method, a transformers folder with a task head, or a Hub id. A list"
        " of teachers averages their logits; the losses on hidden states, attention and relations,"
        " and method.distill.student_layers, use the first.",
        file="input",
    )
    student_layers: Any = setting(
        None,
        "Initialize the student from layers of the teacher: a number of layers, or a list of"
        " indices from 0, as in [0,2,5]. Embeddings and head are copied too. Null: the student is"
        " the configured model.",
    )
    weight: float = setting(
        0.5, "Weight λ of the loss on the teacher's logits. 0: no such loss.", at_least=0
    )
    hard_weight: float | None = setting(
        None,
        "Weight of the loss on the labels. Null: 1 − method.distill.weight, at least 0.",
        at_least=0,
    )
    temperature: float = setting(
        2.0,
        "Temperature T of both softmax distributions. The loss is multiplied by T².",
        at_least=0.01,
        at_most=100,
    )
    hidden_weight: float = setting(
        0.0, "Weight of the mean squared error between hidden states, per layer.", at_least=0
    )
    attention_weight: float = setting(
        0.0,
        "Weight of the mean squared error between attention scores (TinyBERT).",
        at_least=0,
    )
    relation_weight: float = setting(
        0.0,
        "Weight of the loss between query, key and value relations of the student's last layer and"
        " of the teacher layer method.distill.relation_layer (MiniLM).",
        at_least=0,
    )
    layer_map: Any = setting(
        "uniform",
        "Teacher layer for each student layer: uniform, last (the top layers), or a list of indices"
        " from 0.",
    )
    relation_heads: int | None = setting(
        None,
        "Number of heads for the relations. Null: the number of the teacher's attention heads.",
        at_least=1,
    )
    relation_layer: int | None = setting(
        None, "Index (from 0) of the teacher layer for the relations. Null: the last.", at_least=0
    )
    inner_fraction: float = setting(
        0.0,
        "Fraction of the steps, at the start, that train on hidden states, attention and relations"
        " alone; the other steps train on outputs and labels alone (TinyBERT). 0: all losses in"
        " every step.",
        at_least=0,
        below=1,
    )
    augment: int = setting(
        0,
        "Copies of each training row in which words are replaced by words with similar embeddings."
        " Their only targets are the outputs of the teacher. 0: none.",
        at_least=0,
    )
    augment_probability: float = setting(
        0.4,
        "Probability with which a word of a copy is replaced.",
        above=0,
        at_most=1,
    )
    learning_rate: float = setting(
        1e-3,
        "Peak learning rate of the projections between different hidden sizes.",
        above=0,
        at_most=MAX_LEARNING_RATE,
    )
    cache: str = setting(
        "disk",
        "Where the teacher's logits are cached. disk: computed once and reused by other runs."
        " memory: computed once per run. off: computed at every step. The teacher always runs at"
        " every step for losses on hidden states, attention and relations, and for masked_lm.",
        choices=("disk", "memory", "off"),
    )
