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

from bertft.assembly.prepare import Prepared
from bertft.config.commands import TrainConfig
from bertft.data.order import micro_batches
from bertft.reports.material import Material
from bertft.reports.padding import padding_share
from bertft.reports.run_report import leave_report
from bertft.runs.folder import RunFolder
from bertft.training.evaluate import evaluate

__all__ = ["report_on"]

_AGAIN = 4_096  # features of validation that are answered once more
_STEPS = 500  # steps whose padding is counted


def report_on(
    run: RunFolder,
    config: TrainConfig,
    prepared: Prepared,
    metrics: dict[str, Any],
    outputs: np.ndarray | None,
    micro_batch: int,
    warn: Callable[[str], object],
    again: bool = False,
) -> Path | None:
    """The path of report.html, None if there is none; the best weights are in the model.

    ``outputs`` of the best evaluation, None if it was in an earlier process or there was none;
    ``again``: make them again however many they are.
    Nothing is raised: ``warn`` is told.
    """
    try:
        adapted, validation = prepared.adapted, prepared.features.get("validation")
        why = ""
        if outputs is None and validation is not None and metrics["best"]["step"] is not None:
            if again or len(validation) <= _AGAIN:
                kept: list[np.ndarray] = []
                evaluate(
                    adapted.runner, adapted.task, validation, adapted.precision, keep=kept.append
                )
                outputs = kept[0]
            else:
                why = (
                    "The best checkpoint was scored before the run was interrupted, and validation"
                    " is too large to be answered again unasked: bertft report does that."
                )
        layouts = {"unpadded", "padded", adapted.runner.layout}
        material = Material(
            run, config, metrics, adapted.counts(), adapted.task, adapted.parts,
            adapted.model, validation, outputs, why,
            {each: padding_share(_passes(prepared, micro_batch), each) for each in layouts},
        )  # fmt: skip
    except Exception as error:
        warn(f"there is no report ({type(error).__name__}: {error}); the run is whole without it")
        return None
    return leave_report(material, warn)


def _passes(prepared: Prepared, micro_batch: int) -> Iterator[np.ndarray]:
    """Lengths of the forward passes of the first steps."""
    for batch in islice(prepared.order.epoch(0), _STEPS):
        for part in micro_batches(batch, micro_batch):
            yield prepared.order.lengths[part]
