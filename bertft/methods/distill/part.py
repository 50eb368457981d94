"""The part: weights and temperature, the teacher once it is bound, and the projections W.

Projections are made where the hidden states' widths differ. They train beside the model, are in
the state of a checkpoint, and in no export.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from bertft.config.parts.distill import Settings
from bertft.methods.distill.inner import Inner, match
from bertft.methods.distill.objective import DistillObjective, SoftLoss
from bertft.methods.distill.teacher import Teacher
from bertft.methods.objective import Objective
from bertft.methods.part import Group, Part
from bertft.runs.exhibits import Exhibit, Lines

__all__ = ["Distill"]


class Distill(Part):
    """Changes nothing in the model. Without a bound teacher (evaluation, or all weights 0) it
    does nothing at all."""

    name = "distill"
    order = 90
    adapts_layers = False
    beside = True

    def __init__(self, settings: Settings, rate: float) -> None:
        self.settings, self.rate = settings, rate
        self.projections = nn.ModuleList()
        self._teacher: Teacher | None = None
        self._inner = Inner()

    @property
    def weights(self) -> dict[str, float]:
        """Name of each loss of weight above 0 → its weight."""
        own = self.settings
        hard = max(0.0, 1.0 - own.weight) if own.hard_weight is None else own.hard_weight
        weights = {
            "hard": hard,
            "soft": own.weight,
            "hidden": own.hidden_weight,
            "attention": own.attention_weight,
            "relation": own.relation_weight,
        }
        return {name: weight for name, weight in weights.items() if weight > 0}

    @property
    def asks(self) -> bool:
        """Whether anything is learnt from a teacher."""
        return bool(self.weights.keys() - {"hard"})

    @property
    def looks_inside(self) -> bool:
        """Whether more than the teacher's answers is asked for."""
        return bool(self.weights.keys() - {"hard", "soft"})

    def attach(self, model: nn.Module) -> None:
        """The model stays as it is."""

    def bind(self, teacher: Teacher, model: Any, teacher_model: Any = None) -> None:
        """Ask ``teacher`` from now on; new projections are drawn from torch's generator.

        Call it once ``model``, the student, lies on its device. ``teacher_model`` is needed where
        inner states are asked for: UsageError where those of the two cannot be compared.
        """
        self._teacher = teacher
        if teacher_model is None:
            return
        self._inner = match(self.settings, model, teacher_model)
        mine, theirs = model.config.hidden_size, teacher_model.config.hidden_size
        if mine == theirs:
            return
        first = next(model.parameters())
        dtype = torch.float64 if first.dtype == torch.float64 else torch.float32
        self.projections = nn.ModuleList(
            nn.Linear(mine, theirs, bias=False, dtype=dtype) for _ in self._inner.hidden
        ).to(first.device)

    def groups(self, model: nn.Module) -> Iterator[Group]:
        named = tuple(self.projections.named_parameters(prefix="distill"))
        yield Group(self.name, named, self.rate, decay=True, beside=True)

    def objective(self, task: Any) -> Objective | None:
        if self._teacher is None:
            return None
        soft: SoftLoss = task
        return DistillObjective(
            soft, self.weights, self.settings.temperature, self._teacher, self._inner,
            list(self.projections),
        )  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        return dict(self.projections.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.projections.load_state_dict(state)

    def counts(self, model: nn.Module) -> dict[str, int]:
        count = sum(each.numel() for each in self.projections.parameters())
        return {"trainable": count, "kept": 0, "exported": 0}

    def exhibits(
        self, model: nn.Module, measured: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    ) -> Iterator[Exhibit]:
        losses = {
            name: measured[f"loss_{name}"] for name in self.weights if f"loss_{name}" in measured
        }
        if losses:
            yield Lines(
                "distillation", "Losses of distillation", "Each before its weight.", series=losses
            )
