"""The report at a run's end: from what training still holds to ``reports.run_report``.

The answers shown are those that the best evaluation gave. A run that went on after it no longer
has them: they are made again where validation is small, and the report says so where it is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from bertft.config.command_configs import TrainConfig
from bertft.data.batch import LengthGroupedSampler, split_into_micro_batches
from bertft.pipeline.data import RunData
from bertft.pipeline.task_model import TaskModel
from bertft.report.context import ReportContext
from bertft.report.run_report import padding_fraction, write_report
from bertft.runs.run_folder import RunFolder
from bertft.training.evaluate import evaluate

__all__ = ["write_run_report"]

_MAX_REEVALUATED = 4_096  # features of validation that are answered once more
_MAX_PADDING_STEPS = 500  # steps whose padding is counted


def write_run_report(
    run_folder: RunFolder,
    config: TrainConfig,
    data: RunData,
    task_model: TaskModel,
    metrics: dict[str, Any],
    outputs: np.ndarray | None,
    warn: Callable[[str], object],
    force_reevaluation: bool = False,
) -> Path | None:
    """The path of report.html, None if there is none; the best weights are in the model.

    ``outputs`` of the best evaluation, None if it was in an earlier process or there was none;
    ``force_reevaluation``: make them again however many they are.
    Nothing is raised: ``warn`` is told.
    """
    try:
        validation = data.training.validation
        missing_reason = ""
        if outputs is None and validation is not None and metrics["best"]["step"] is not None:
            if force_reevaluation or len(validation) <= _MAX_REEVALUATED:
                collected: list[np.ndarray] = []
                evaluate(
                    task_model.runner,
                    task_model.task,
                    validation,
                    task_model.precision,
                    on_outputs=collected.append,
                )
                outputs = collected[0]
            else:
                missing_reason = (
                    "The best checkpoint was scored before the run was interrupted, and validation"
                    " is too large to be answered again unasked: bertft report does that."
                )
        micro_batch = config.trainer.micro_batch or config.trainer.batch_size
        layouts = {"unpadded", "padded", task_model.runner.layout}
        material = ReportContext(
            run_folder,
            config,
            metrics,
            task_model.count_parameters(),
            task_model.task,
            task_model.components,
            task_model.model,
            validation,
            outputs,
            missing_reason,
            {
                layout: padding_fraction(
                    _iter_pass_lengths(data.training.sampler, micro_batch), layout
                )
                for layout in layouts
            },
        )
    except Exception as error:
        warn(f"there is no report ({type(error).__name__}: {error}); the run is whole without it")
        return None
    return write_report(material, warn)


def _iter_pass_lengths(sampler: LengthGroupedSampler, micro_batch: int) -> Iterator[np.ndarray]:
    """Lengths of the rows in each forward pass of the first steps."""
    for batch in islice(sampler.epoch_batches(0), _MAX_PADDING_STEPS):
        for part in split_into_micro_batches(batch, micro_batch):
            yield sampler.lengths[part]
