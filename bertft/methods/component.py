"""A part: one orthogonal ingredient of a method, attached to a transformers model in place.

The loop calls, in this order, on every part:

    attach(model)                        once
    objective(task)                      once: what a step minimises, if not the task's loss
    loss()                               once an optimizer step, beside the task's loss
    before_step(step, total)             gradients final (unscaled, clipped), weights not yet moved
    after_step(step, total, optimizer)   weights moved
    ready(step, total)                   may an evaluation after ``step`` count as best?

Steps count from 1. ``total`` is the number of optimizer steps of the run.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from bertft.data.batch import Batch
from bertft.models.runner import EncoderRunner
from bertft.tasks.report_items import ReportItem

__all__ = [
    "MethodComponent",
    "Objective",
    "ParamGroup",
    "TaskLoss",
    "TaskObjective",
    "split_by_weight_decay",
]


class TaskLoss(Protocol):
    """What an objective asks of a task (see ``bertft.tasks.task``)."""

    level: ClassVar[str]

    def count_loss_terms(self, batch: Batch) -> int: ...
    def loss(self, logits: Tensor, batch: Batch) -> Tensor: ...


class Objective(ABC):
    """``weights``: name of a loss → w. With more than one loss, each is told by its name."""

    weights: Mapping[str, float]

    @abstractmethod
    def term_counts(self, batch: Batch) -> Mapping[str, int]:
        """Terms of each loss in ``batch``, which may lie anywhere."""

    @abstractmethod
    def forward(self, runner: EncoderRunner, batch: Batch) -> Any:
        """The forward passes, run in the precision of the model; ``batch`` lies on its device."""

    @abstractmethod
    def loss_sums(self, outputs: Any, batch: Batch) -> Mapping[str, Tensor]:
        """Each loss summed over its terms, in fp32 (fp64 for fp64), from ``forward``'s outputs."""


class TaskObjective(Objective):
    """The task's own loss."""

    def __init__(self, task: TaskLoss) -> None:
        self.task, self.weights = task, {"loss": 1.0}

    def term_counts(self, batch: Batch) -> Mapping[str, int]:
        return {"loss": self.task.count_loss_terms(batch)}

    def forward(self, runner: EncoderRunner, batch: Batch) -> Tensor:
        return runner(batch)

    def loss_sums(self, outputs: Tensor, batch: Batch) -> Mapping[str, Tensor]:
        return {"loss": self.task.loss(outputs, batch)}


def split_by_weight_decay(
    name: str, parameters: Sequence[tuple[str, nn.Parameter]], learning_rate: float
) -> Iterator[ParamGroup]:
    """A group with weight decay for what has two dimensions or more, one without for the rest."""
    for use_weight_decay in (True, False):
        selected = tuple(pair for pair in parameters if (pair[1].dim() > 1) == use_weight_decay)
        if selected:
            yield ParamGroup(
                name if use_weight_decay else f"{name}/no_decay",
                selected,
                learning_rate,
                use_weight_decay,
            )


@dataclass(frozen=True)
class ParamGroup:
    """Named parameters that share a peak ``learning_rate`` (1/step) and whether weight decay
    applies.

    ``training_only``: they are none of the model's, serve training alone, and are in no export.
    """

    name: str
    parameters: tuple[tuple[str, nn.Parameter], ...]
    learning_rate: float
    use_weight_decay: bool
    training_only: bool = False


class MethodComponent(ABC):
    """See the module's contract. It owns parameters inside the model, and state outside of it."""

    name: ClassVar[str]
    attach_order: ClassVar[int] = 50  # parts attach in ascending order
    foldable: ClassVar[bool] = True  # whether ``fold`` leaves a plain transformers model
    trains_base: bool = False  # whether weights of the base itself train
    adapts_layers: ClassVar[bool] = True  # whether it adds to layers of the base
    training_only: ClassVar[bool] = (
        False  # whether what it trains lies beside the model, in no export
    )
    reserved_positions: int = 0  # position embeddings that this part takes from the sequence

    @abstractmethod
    def attach(self, model: nn.Module) -> None:
        """Change ``model`` in place: wrap layers, add parameters, set ``requires_grad``."""

    @abstractmethod
    def param_groups(self, model: nn.Module) -> Iterator[ParamGroup]:
        """The parameters this part trains, each in exactly one group."""

    def objective(self, task: TaskLoss) -> Objective | None:
        """What a step minimises in place of ``task``'s own loss; None: that loss."""
        return None

    def extra_loss(self) -> Tensor | None:
        """Extra training loss (fp32 scalar), or None. Never part of an evaluation loss."""
        return None

    def before_step(self, step: int, total_steps: int) -> None:
        """Gradients are final and the weights have not moved yet."""

    def after_step(self, step: int, total_steps: int, optimizer: Optimizer) -> None:
        """The weights have moved."""

    def is_eligible(self, step: int, total_steps: int) -> bool:
        """Whether the model after ``step`` is one this part would keep."""
        return True

    def metrics(self) -> dict[str, float]:
        """Scalars for the metrics file, such as the budget left."""
        return {}

    def device_metrics(self) -> dict[str, Tensor]:
        """Scalars for the metrics file that lie on the device: tensors of no dimension, detached.

        They are read with the step's loss, in one piece.
        """
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Whatever is neither a parameter nor a persistent buffer: tensors and JSON scalars."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` gave, bit for bit."""
        if state:
            raise ValueError(f"{self.name} keeps no state but was given {sorted(state)}")

    @abstractmethod
    def parameter_counts(self, model: nn.Module) -> dict[str, int]:
        """``trainable``, ``kept`` (after pruning) and ``exported`` parameters of this part."""

    def report_items(
        self, model: nn.Module, history: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    ) -> Iterator[ReportItem]:
        """What the report shows of the best model; ``history``: measure → (steps, values)."""
        return iter(())

    def peft_adapter(self, model: nn.Module) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
        """What it adds in peft's format: keys of adapter_config.json, tensors by peft's names.

        None: peft's format cannot hold it.
        """
        return None

    def fold(self, model: nn.Module) -> int:
        """Fold into the base weights in fp32 and remove itself; the number of matrices folded."""
        return 0
