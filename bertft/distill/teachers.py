"""A teacher as a step asks it: by answers given before, or by running it on the batch.

Remembered   logits by feature, from memory or a mapped file: no forward pass
Live         a forward pass in evaluation mode and without gradients
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from bertft.data.batch import Batch, collate, to_device
from bertft.data.cached_logits import CachedLogits
from bertft.data.features import FeatureTable
from bertft.models.forward_state import ActivationRecorder
from bertft.models.precision import Precision
from bertft.models.runner import EncoderRunner

__all__ = ["CachedTeacher", "OnlineTeacher", "Teacher"]


class Teacher(ABC):
    """``teacher(batch, trace)`` → logits like the student's, on the batch's device.

    ``rows`` and ``batches`` count what a model was run on.
    """

    rows: int = 0
    batches: int = 0

    @abstractmethod
    def __call__(self, batch: Batch, recorder: ActivationRecorder | None = None) -> Tensor: ...


class CachedTeacher(Teacher):
    """Answers of ``logits``, features of the training table."""

    def __init__(self, logits: CachedLogits) -> None:
        self.logits = logits

    def __call__(self, batch: Batch, recorder: ActivationRecorder | None = None) -> Tensor:
        assert recorder is None, "inner states are not remembered"
        return to_device(self.logits.gather(batch.feature_indices), batch.device)


class OnlineTeacher(Teacher):
    """``table``: the training rows as the teacher's own tokenizer has them; None: no other.

    It computes as it does alone, in ``precision``, whatever the student's pass is in.
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
