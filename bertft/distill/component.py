"""The distillation component: it holds the teacher, the loss weights and the projections W.

If the hidden states of teacher and student differ in width, a projection maps those of the student
to the width of the teacher. Projections are trained with the model. They are saved in the training
state of a checkpoint and are not exported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from bertft.config.method_components.distill import DistillConfig
from bertft.distill.layer_mapping import ComparedStates, match_states
from bertft.distill.losses import DistillableTask, DistillationObjective, inner_stage_steps
from bertft.distill.teachers import Teacher
from bertft.methods.component import MethodComponent, Objective, ParamGroup
from bertft.models.precision import at_least_fp32
from bertft.tasks.report_items import LineChart, ReportItem

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["Distillation", "compares_inner_states", "loss_weights", "needs_teacher"]


def loss_weights(settings: DistillConfig) -> dict[str, float]:
    """Return a dict from loss to weight, with only the weights above 0."""
    hard_weight = settings.hard_weight
    if hard_weight is None:
        hard_weight = max(0.0, 1.0 - settings.weight)
    weights = {
        "hard": hard_weight,
        "soft": settings.weight,
        "hidden": settings.hidden_weight,
        "attention": settings.attention_weight,
        "relation": settings.relation_weight,
    }
    return {name: weight for name, weight in weights.items() if weight > 0}


def needs_teacher(settings: DistillConfig) -> bool:
    """Whether any loss uses the teacher."""
    return bool(loss_weights(settings).keys() - {"hard"})


def compares_inner_states(settings: DistillConfig) -> bool:
    """Whether any loss compares hidden or attention states, not only logits."""
    return bool(loss_weights(settings).keys() - {"hard", "soft"})


class Distillation(MethodComponent):
    """Replaces the loss of the task; the model is not changed.

    Without a bound teacher (in evaluation, or if all weights are 0) it does nothing.
    """

    name = "distill"
    attach_order = 90
    adapts_layers = False
    training_only = True
    ineligible_reason = "the outputs are not trained yet (method.distill.inner_fraction)"

    def __init__(self, settings: DistillConfig, learning_rate: float) -> None:
        self.settings, self.learning_rate = settings, learning_rate
        self.weights = loss_weights(settings)
        self.projections = nn.ModuleList()
        self._teacher: Teacher | None = None
        self._compared = ComparedStates()

    def attach(self, model: nn.Module) -> None:
        """Do nothing: the model is not changed."""

    def bind_teacher(
        self,
        teacher: Teacher,
        model: PreTrainedModel,
        teacher_model: PreTrainedModel | None = None,
    ) -> None:
        """Use the outputs of ``teacher``; draw new projections from torch's generator.

        Args:
            teacher: computes or looks up the outputs for a batch.
            model: the student, on its device.
            teacher_model: the model of ``teacher``; required only if inner states are compared.

        Raises:
            UsageError: the inner states of the two models cannot be compared.
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
            self.settings.inner_fraction,
        )

    def is_eligible(self, step: int, total_steps: int) -> bool:
        """Whether ``step`` is in the second stage, in which the outputs are trained."""
        return step > inner_stage_steps(self.settings.inner_fraction, total_steps)

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
                "distillation",
                "Distillation losses",
                "Each loss before weighting.",
                series=losses,
            )
