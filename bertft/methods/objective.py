"""What a step minimises: a weighted sum of losses, each a mean over its own terms.

    L = Σ_name w_name · (Σ_b sums_b[name]) / (Σ_b terms_b[name])      b: the window's micro-batches

The counts of terms are known before any forward pass, so that micro-batches add up to the window.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from torch import Tensor

from bertft.data.batch import Batch
from bertft.models.runner import EncoderRunner

__all__ = ["TaskLoss", "Objective", "TaskObjective"]


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
