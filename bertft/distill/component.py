"""The part: weights and temperature, the teacher once it is bound, and the projections W.

Projections are made where the hidden states' widths differ. They train beside the model, are in
the state of a checkpoint, and in no export.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from bertft.config.method_components.distill import DistillConfig
from bertft.distill.layer_mapping import ComparedStates, match_states
from bertft.distill.losses import DistillableTask, DistillationObjective
from bertft.distill.teachers import Teacher
from bertft.methods.component import MethodComponent, Objective, ParamGroup
from bertft.models.precision import at_least_fp32
from bertft.tasks.report_items import LineChart, ReportItem

__all__ = ["Distillation"]


class Distillation(MethodComponent):
    """Changes nothing in the model. Without a bound teacher (evaluation, or all weights 0) it
    does nothing at all."""

    name = "distill"
    attach_order = 90
    adapts_layers = False
    training_only = True

    def __init__(self, settings: DistillConfig, learning_rate: float) -> None:
        self.settings, self.learning_rate = settings, learning_rate
        self.projections = nn.ModuleList()
        self._teacher: Teacher | None = None
        self._compared = ComparedStates()

    @property
    def weights(self) -> dict[str, float]:
        """Name of each loss of weight above 0 → its weight."""
        settings = self.settings
        hard_weight = (
            max(0.0, 1.0 - settings.weight)
            if settings.hard_weight is None
            else settings.hard_weight
        )
        weights = {
            "hard": hard_weight,
            "soft": settings.weight,
            "hidden": settings.hidden_weight,
            "attention": settings.attention_weight,
            "relation": settings.relation_weight,
        }
        return {name: weight for name, weight in weights.items() if weight > 0}

    @property
    def needs_teacher(self) -> bool:
        """Whether anything is learnt from a teacher."""
        return bool(self.weights.keys() - {"hard"})

    @property
    def compares_inner_states(self) -> bool:
        """Whether more than the teacher's answers is asked for."""
        return bool(self.weights.keys() - {"hard", "soft"})

    def attach(self, model: nn.Module) -> None:
        """The model stays as it is."""

    def bind_teacher(self, teacher: Teacher, model: Any, teacher_model: Any = None) -> None:
        """Ask ``teacher`` from now on; new projections are drawn from torch's generator.

        Call it once ``model``, the student, lies on its device. ``teacher_model`` is needed where
        inner states are asked for: UsageError where those of the two cannot be compared.
        """
        self._teacher = teacher
        if teacher_model is None:
            return
        self._compared = match_states(self.settings, model, teacher_model)
        student_width, teacher_width = model.config.hidden_size, teacher_model.config.hidden_size
        if student_width == teacher_width:
            return
        first_parameter = next(model.parameters())
        dtype = at_least_fp32(first_parameter.dtype)
        self.projections = nn.ModuleList(
            nn.Linear(student_width, teacher_width, bias=False, dtype=dtype)
            for _ in self._compared.hidden
        ).to(first_parameter.device)

    def param_groups(self, model: nn.Module) -> Iterator[ParamGroup]:
        named_parameters = tuple(self.projections.named_parameters(prefix="distill"))
        yield ParamGroup(
            self.name,
            named_parameters,
            self.learning_rate,
            use_weight_decay=True,
            training_only=True,
        )

    def objective(self, task: Any) -> Objective[Any] | None:
        if self._teacher is None:
            return None
        distillable_task: DistillableTask = task
        return DistillationObjective(
            distillable_task,
            self.weights,
            self.settings.temperature,
            self._teacher,
            self._compared,
            list(self.projections),
        )

    def state_dict(self) -> dict[str, Any]:
        return dict(self.projections.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.projections.load_state_dict(state)

    def parameter_counts(self, model: nn.Module) -> dict[str, int]:
        count = sum(parameter.numel() for parameter in self.projections.parameters())
        return {"trainable": count, "kept": 0, "exported": 0}

    def report_items(
        self, model: nn.Module, history: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    ) -> Iterator[ReportItem]:
        losses = {
            name: history[f"loss_{name}"] for name in self.weights if f"loss_{name}" in history
        }
        if losses:
            yield LineChart(
                "distillation", "Losses of distillation", "Each before its weight.", series=losses
            )
