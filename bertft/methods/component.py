"""A component: one part of a method, attached to a transformers model in place.

Components can be combined freely.

Training calls, in this order, on every component:

    attach(model)                               once
    objective(task)                             once: replaces the loss of the task
    start_from_data(model, run_passes)          once, before the first step, with start_batches > 0
    objective.begin_step(step, total_steps)     before the passes of a step: chooses its losses
    extra_loss()                                per optimizer step, added to the loss
    before_step(step, total_steps)              gradients are final, weights are not updated yet
    after_step(step, total_steps, optimizer)    weights are updated
    is_eligible(step, total_steps)              may an evaluation after ``step`` count as best?

Steps count from 1; ``total_steps`` is the number of optimizer steps of the run.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeAlias, TypeVar

from torch import Tensor, nn
from torch.optim import Optimizer

from bertft.data.batch import Batch
from bertft.models.runner import EncoderRunner
from bertft.tasks.report_items import ReportItem

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = [
    "ComponentState",
    "MethodComponent",
    "MetricHistory",
    "NamedParameter",
    "Objective",
    "ParamGroup",
    "PeftAdapter",
    "RunPasses",
    "TaskLoss",
    "TaskObjective",
]

NamedParameter: TypeAlias = tuple[str, nn.Parameter]

ComponentState: TypeAlias = dict[str, Tensor | int | float | bool | str | None]
"""State of a component in a checkpoint: tensors and JSON scalars by name."""

MetricHistory: TypeAlias = Mapping[str, tuple[Sequence[float], Sequence[float]]]
"""Name of a metric → its steps and its values."""

PeftAdapter: TypeAlias = tuple[dict[str, Any], dict[str, Tensor]]
"""Entries of ``adapter_config.json``, and tensors by peft's names."""


RunPasses: TypeAlias = Callable[[Callable[[], None]], None]
"""``run_passes(reset)`` runs forward and backward passes over the first batches of the run, without
dropout. It calls ``reset`` if memory runs out and the passes begin again."""


@dataclass(frozen=True)
class ParamGroup:
    """Named parameters that share a learning rate.

    Attributes:
        name: Shown in metrics.jsonl, up to a slash.
        parameters: (name in the model, parameter).
        learning_rate: The peak.
        use_weight_decay: Whether weight decay applies.
        training_only: The parameters belong to the component, not to the model, and are in no
            export.
    """

    name: str
    parameters: tuple[NamedParameter, ...]
    learning_rate: float
    use_weight_decay: bool
    training_only: bool = False


class MethodComponent(ABC):
    """The base class of all components; the docstring of the module shows when hooks are called.

    Attributes:
        name: The name under which it is registered.
        attach_order: Components attach in ascending order.
        foldable: Whether ``fold`` leaves a plain transformers model.
        trains_base: Whether weights of the base train.
        adapts_layers: Whether it adds to layers of the base.
        training_only: Whether its parameters are outside the model, and in no export.
        reserved_positions: Position embeddings that it takes from the sequence.
        use_weight_decay: Whether weight decay applies to its matrices.
        start_batches: How many batches ``start_from_data`` needs; 0: it is not called.
        learning_rate: The peak, for components that train parameters.
    """

    name: ClassVar[str]
    attach_order: ClassVar[int] = 50
    foldable: ClassVar[bool] = True
    trains_base: bool = False
    adapts_layers: ClassVar[bool] = True
    training_only: ClassVar[bool] = False
    reserved_positions: int = 0
    use_weight_decay: ClassVar[bool] = True
    start_batches: int = 0
    ineligible_reason: ClassVar[str] = "the method is not complete"  # if is_eligible is False
    learning_rate: float

    @abstractmethod
    def attach(self, model: PreTrainedModel) -> None:
        """Change ``model`` in place: wrap layers, add parameters, set ``requires_grad``."""

    def start_from_data(self, model: nn.Module, run_passes: RunPasses) -> None:
        """Initialize parameters from activations and gradients recorded during ``run_passes``.

        In a distributed run, only the main process calls this, and the parameters of
        ``param_groups`` are then broadcast. A run that resumes after a step does not call it.
        """

    def named_parameters(self, model: nn.Module) -> Iterator[NamedParameter]:
        """The parameters of this component, by their names in ``model``."""
        return iter(())

    def param_groups(self, model: nn.Module) -> Iterator[ParamGroup]:
        """Every parameter that this component trains, in exactly one group.

        By default, matrices of ``named_parameters`` are in a group with weight decay, the rest in
        one without.
        """
        trained = tuple(pair for pair in self.named_parameters(model) if pair[1].requires_grad)
        if not self.use_weight_decay:
            yield ParamGroup(self.name, trained, self.learning_rate, use_weight_decay=False)
            return
        for suffix, decays in (("", True), ("/no_decay", False)):
            selected = tuple(pair for pair in trained if (pair[1].dim() > 1) == decays)
            if selected:
                yield ParamGroup(self.name + suffix, selected, self.learning_rate, decays)

    def parameter_counts(self, model: nn.Module) -> dict[str, int]:
        """``trainable``, ``kept`` (after pruning) and ``exported`` parameters."""
        count = sum(parameter.numel() for _, parameter in self.named_parameters(model))
        return {"trainable": count, "kept": count, "exported": count}

    def objective(self, task: TaskLoss) -> Objective[Any] | None:
        """What a step minimizes instead of the task's loss; None: the task's loss."""
        return None

    def extra_loss(self) -> Tensor | None:
        """A scalar in fp32 that is added to the training loss; it is in no evaluation loss."""
        return None

    def before_step(self, step: int, total_steps: int) -> None:
        """Called when the gradients are final, before the weights are updated."""

    def after_step(self, step: int, total_steps: int, optimizer: Optimizer) -> None:
        """Called after the weights are updated."""

    def is_eligible(self, step: int, total_steps: int) -> bool:
        """Whether the model after ``step`` may become the best one (see ``ineligible_reason``)."""
        return True

    def metrics(self) -> dict[str, float]:
        """Scalars for the metrics file, for example the remaining budget."""
        return {}

    def device_metrics(self) -> dict[str, Tensor]:
        """Scalar tensors for the metrics file, detached; read together with the step's loss."""
        return {}

    def state_dict(self) -> ComponentState:
        """State that is neither a parameter nor a persistent buffer of the model."""
        return {}

    def load_state_dict(self, state: ComponentState) -> None:
        """Restore what ``state_dict`` returned. ValueError if it belongs to another model."""
        if state:
            raise ValueError(f"{self.name} has no state, got {sorted(state)}")

    def module_values(self, model: nn.Module) -> dict[str, dict[str, float]]:
        """Values of the adapted modules of the best model, by their name and the module's.

        They are recorded in metrics.json, and ``bertft compare`` shows those of several runs next
        to each other. Modules have the names of ``module_names``.
        """
        return {}

    def report_items(self, model: nn.Module, history: MetricHistory) -> Iterator[ReportItem]:
        """Content of the report for the best model and the metrics of the run."""
        return iter(())

    def peft_adapter(self, model: nn.Module) -> PeftAdapter | None:
        """What the component adds, in peft's format; None if that format cannot represent it."""
        return None

    def fold(self, model: nn.Module) -> int:
        """Fold into the base weights, in fp32 or more, and remove the component.

        Returns:
            The number of folded layers.
        """
        return 0


class TaskLoss(Protocol):
    """What an objective uses of a task (see ``bertft.tasks.task``)."""

    level: ClassVar[str]

    def count_loss_terms(self, batch: Batch) -> int: ...
    def loss(self, logits: Tensor, batch: Batch) -> Tensor: ...


Outputs = TypeVar("Outputs")


class Objective(ABC, Generic[Outputs]):
    """What a training step minimizes: Σ weight · mean of each loss.

    ``weights``: name of each loss → its weight. Several losses are reported by name.
    ``label_loss``: the name of the loss on the labels; None, or without a weight, if there is none.
    ``trains_outputs``: whether the present losses depend on the outputs of the head. Otherwise,
    constant predictions are no sign of a collapse.
    """

    weights: Mapping[str, float]
    label_loss: ClassVar[str | None] = None
    trains_outputs: bool = True

    def begin_step(self, step: int, total_steps: int) -> None:
        """Called before the passes of ``step``; ``weights`` may change from step to step."""

    @abstractmethod
    def term_counts(self, batch: Batch) -> Mapping[str, int]:
        """The number of terms of each loss; ``batch`` may be on any device."""

    @abstractmethod
    def forward(self, runner: EncoderRunner, batch: Batch) -> Outputs:
        """The forward passes, in the model's precision, of a batch on the model's device."""

    @abstractmethod
    def loss_sums(self, outputs: Outputs, batch: Batch) -> Mapping[str, Tensor]:
        """The sum of each loss over its terms, in fp32, or in fp64 for outputs in fp64."""


class TaskObjective(Objective[Tensor]):
    """The loss of the task."""

    label_loss = "loss"

    def __init__(self, task: TaskLoss) -> None:
        self.task, self.weights = task, {"loss": 1.0}

    def term_counts(self, batch: Batch) -> Mapping[str, int]:
        return {"loss": self.task.count_loss_terms(batch)}

    def forward(self, runner: EncoderRunner, batch: Batch) -> Tensor:
        return runner(batch)

    def loss_sums(self, outputs: Tensor, batch: Batch) -> Mapping[str, Tensor]:
        return {"loss": self.task.loss(outputs, batch)}
