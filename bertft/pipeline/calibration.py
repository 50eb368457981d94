"""Fit a temperature, thresholds or prediction sets on validation after training; apply them.

    calibrate           fit what the run configures, apply it, and measure its effect
    read_calibration    read the values of a finished run from its metrics.json
    apply_calibration   apply them to a model

The temperature is fitted first, and the thresholds are then fitted to the calibrated probabilities.
Prediction sets are fitted on one half of the validation rows (``bertft.pipeline.conformal``). All
values belong to one checkpoint, the best, whose step is recorded with them in metrics.json under
"calibration". The file is written when the run is finished and removed when the run is resumed, so
that it always matches the checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np

from bertft.config.command_configs import TrainConfig
from bertft.data.features import FeatureTable
from bertft.errors import DataError
from bertft.pipeline.conformal import fit_sets, observed_sets, parse_sets
from bertft.pipeline.model_info import is_threshold
from bertft.pipeline.task_model import TaskModel
from bertft.runs.metrics_json import Calibration, read_metrics_json
from bertft.runs.run_folder import RunFolder
from bertft.tasks.shared.calibration import CALIBRATION_BINS
from bertft.training.distributed import DistributedContext
from bertft.training.evaluate import evaluation_transform, predict_logits
from bertft.utils.messages import invalid_entry
from bertft.utils.safe_files import DAMAGED_FILE_HINT

__all__ = [
    "apply_calibration",
    "calibrate",
    "is_calibration_requested",
    "read_calibration",
]


def is_calibration_requested(config: TrainConfig) -> bool:
    """Whether ``config`` enables a temperature, prediction sets or tuned thresholds."""
    return config.calibrate is not None or config.tune_threshold


def calibrate(
    config: TrainConfig,
    task_model: TaskModel,
    table: FeatureTable,
    step: int,
    distributed: DistributedContext,
    warn: Callable[[str], None],
) -> tuple[Calibration, dict[str, float], np.ndarray]:
    """Fit the temperature and the thresholds that ``config`` enables, and apply them.

    Args:
        table: validation features.
        step: step of the checkpoint whose weights the model has.

    Returns:
        The entry of metrics.json ("ece" and "loss" before and after the temperature, "tuned" with a
        metric before and after the threshold; null for what is not enabled), the metrics, and the
        logits. Metrics and logits are those of the calibrated model: a later evaluation gives the
        same to the last bit.
    """
    task = task_model.task
    logits = predict_logits(
        task_model.runner,
        table,
        task_model.precision,
        distributed=distributed,
        transform=evaluation_transform(task),
        columns=task.label_columns,
    )
    calibration, metrics = distributed.broadcast_object(
        lambda: _fit(config, task_model, table, step, logits, warn)
    )
    apply_calibration(calibration, task_model)
    return calibration, metrics, _divide_by_temperature(logits, calibration["temperature"])


def _divide_by_temperature(logits: np.ndarray, temperature: float | None) -> np.ndarray:
    """Divide in fp32, as EncoderRunner does; multiplying by 1/T would give other last bits."""
    return logits if temperature is None else logits / np.float32(temperature)


def _fit(
    config: TrainConfig,
    task_model: TaskModel,
    table: FeatureTable,
    step: int,
    logits: np.ndarray,
    warn: Callable[[str], None],
) -> tuple[Calibration, dict[str, float]]:
    task = task_model.task
    calibration: Calibration = {
        "step": step,
        "rows": len(table),
        "temperature": None,
        "threshold": None,
    }
    if config.calibrate == "temperature":
        temperature = task.best_temperature(logits, table)
        if temperature is None:
            warn(
                "no temperature minimizes the validation loss: all predictions are correct, or the"
                " wrong ones are so confident that equal probabilities would have a lower loss. The"
                " temperature stays 1"
            )
        scaled = _divide_by_temperature(logits, temperature)
        logits_by_stage = {"before": logits, "after": scaled}
        calibration |= {
            "temperature": temperature,
            "bins": CALIBRATION_BINS,
            "ece": {
                stage: task.calibration_error(values, table)
                for stage, values in logits_by_stage.items()
            },
            "loss": {
                stage: task.compute_all_metrics(values, table)["loss"]
                for stage, values in logits_by_stage.items()
            },
        }
        logits = scaled
    if config.calibrate == "conformal":
        sets = fit_sets(task, logits, table, config.coverage, config.data.seed)
        calibration["conformal"] = asdict(sets)
        task.set_conformal(sets)
    metrics = task.compute_all_metrics(logits, table)
    if config.tune_threshold:
        before = metrics
        threshold, metric = task.best_threshold(logits, table)
        task.set_threshold(threshold)
        metrics = task.compute_all_metrics(logits, table)
        calibration["threshold"] = threshold
        calibration["tuned"] = {
            "metric": metric,
            "before": before[metric],
            "after": metrics[metric],
        }
    observed = observed_sets(task, logits, table)
    if observed:
        calibration["observed"] = observed
    return calibration, metrics | observed


def apply_calibration(calibration: Calibration, task_model: TaskModel) -> None:
    """Set the temperature, the threshold and the prediction sets of ``task_model``."""
    task_model.runner.temperature = calibration["temperature"]
    task_model.task.set_conformal(parse_sets(calibration.get("conformal")))
    if calibration["threshold"] is not None:
        task_model.task.set_threshold(calibration["threshold"])


def read_calibration(run: RunFolder, step: int | None = None) -> Calibration | None:
    """The calibration of the checkpoint of ``step`` (None: of any step); None if there is none.

    Raises:
        DataError: the entry is invalid, or metrics.json has changed since it was sealed.
    """
    if not run.is_finished:
        return None
    calibration = read_metrics_json(run.metrics_path).get("calibration")
    if calibration is not None and not _is_calibration(calibration):
        raise DataError(
            invalid_entry("calibration", calibration),
            where=str(run.metrics_path),
            hint=DAMAGED_FILE_HINT,
        )
    run.verify_seal(run.metrics_path)  # predictions depend on this entry, also on its absence
    return calibration if calibration is not None and step in (None, calibration["step"]) else None


def _is_calibration(value: Any) -> bool:
    if not isinstance(value, dict) or type(value.get("step")) is not int:
        return False
    temperature, threshold = value.get("temperature"), value.get("threshold")
    try:
        parse_sets(value.get("conformal"))
    except ValueError:
        return False
    has_temperature = temperature is None or (
        type(temperature) is float and 1e-6 < temperature < 1e6
    )
    return has_temperature and (threshold is None or is_threshold(threshold))
