"""Teachers: they return the teacher's logits for a batch of a training step.

CachedTeacher   reads logits per feature from memory or from a mapped file: no forward pass
OnlineTeacher   runs a forward pass in evaluation mode, without gradients
StagedTeacher   runs only for the steps that compare inner states
AveragedTeacher the mean of the logits of several teachers
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from bertft.data.batch import Batch, collate, to_device
from bertft.data.features import FeatureTable
from bertft.distill.cached_logits import CachedLogits
from bertft.models.forward_state import ActivationRecorder
from bertft.models.precision import Precision, at_least_fp32
from bertft.models.runner import EncoderRunner

__all__ = ["AveragedTeacher", "CachedTeacher", "OnlineTeacher", "StagedTeacher", "Teacher"]


class Teacher(ABC):
    """``teacher(batch, recorder)`` returns logits in the student's shape, on the batch's device.

    Attributes:
        rows, batches: numbers of rows and batches of the forward passes so far.
    """

    rows: int = 0
    batches: int = 0

    @abstractmethod
    def __call__(self, batch: Batch, recorder: ActivationRecorder | None = None) -> Tensor: ...


class CachedTeacher(Teacher):
    """Looks up ``logits`` by the index of a feature in the training table."""

    def __init__(self, logits: CachedLogits) -> None:
        self.logits = logits

    def __call__(self, batch: Batch, recorder: ActivationRecorder | None = None) -> Tensor:
        assert recorder is None, "inner states are not cached"
        return to_device(self.logits.gather(batch.feature_indices), batch.device)


class OnlineTeacher(Teacher):
    """Runs the teacher on each batch, in its own ``precision``, not in that of the student.

    Args:
        table: features of the training rows from the teacher's own tokenizer; None: the teacher
            reads the features of the student.
    """

    def __init__(
        self, runner: EncoderRunner, table: FeatureTable | None, precision: Precision
    ) -> None:
        self.runner, self.table, self.precision = runner, table, precision
        runner.model.requires_grad_(False)
        runner.model.eval()

    def __call__(self, batch: Batch, recorder: ActivationRecorder | None = None) -> Tensor:
        self.rows += len(batch)
        self.batches += 1
        if self.table is not None:
            device = batch.device
            batch = collate(self.table, batch.feature_indices, ()).pin_memory(device).to(device)
        autocast_off = torch.autocast(batch.device.type, enabled=False)
        with torch.no_grad(), autocast_off, self.precision.autocast():
            return self.runner(batch, recorder)


class StagedTeacher(Teacher):
    """``online`` where inner states are recorded, which are not cached; else ``cached``."""

    def __init__(self, online: OnlineTeacher, cached: CachedTeacher) -> None:
        self.online, self.cached = online, cached

    def __call__(self, batch: Batch, recorder: ActivationRecorder | None = None) -> Tensor:
        if recorder is None:
            return self.cached(batch)
        logits = self.online(batch, recorder)
        self.rows, self.batches = self.online.rows, self.online.batches
        return logits


class AveragedTeacher(Teacher):
    """z = mean_k z_k over the logits of ``teachers``; inner states are those of the first.

    For classes, softmax(z) is the geometric mean of their distributions, normalized (Hinton et al.
    2015, section 2: the soft targets of an ensemble). For regression, z is the mean score.
    """

    def __init__(self, teachers: Sequence[Teacher]) -> None:
        self.teachers = list(teachers)

    def __call__(self, batch: Batch, recorder: ActivationRecorder | None = None) -> Tensor:
        first, *others = self.teachers
        logits = [first(batch, recorder), *(teacher(batch) for teacher in others)]
        self.rows = sum(teacher.rows for teacher in self.teachers)
        self.batches = sum(teacher.batches for teacher in self.teachers)
        return torch.stack([values.to(at_least_fp32(values.dtype)) for values in logits]).mean(0)
