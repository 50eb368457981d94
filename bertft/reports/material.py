"""What a report is made of: all that a finished run knows, and the model that it kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bertft.config.commands import TrainConfig
from bertft.methods.part import MethodComponent
from bertft.reports.history import History, read_history
from bertft.runs.folder import RunFolder
from bertft.tasks.task import BaseTask

__all__ = ["ReportContext"]


@dataclass
class ReportContext:
    """``model`` is the best one, with its ``components``; ``validation`` its features, if any.

    ``outputs``: what the task's metrics of the best model were made of; None: they are not there,
    and ``missing_outputs_reason`` says why. ``parameter_counts`` are those of the best model's parameters, by part,
    after pruning; ``padding_fractions``: layout → share of cells without a token.
    """

    run: RunFolder
    config: TrainConfig
    metrics: dict[str, Any]
    parameter_counts: dict[str, Any]
    task: BaseTask
    components: Sequence[MethodComponent]
    model: Any
    validation: Any
    outputs: np.ndarray | None
    missing_outputs_reason: str
    padding_fractions: dict[str, float]

    @cached_property
    def manifest(self) -> dict[str, Any]:
        return self.run.read_manifest()

    @cached_property
    def history(self) -> History:
        return read_history(self.run)
