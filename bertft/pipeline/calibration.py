"""After training: a temperature and thresholds fitted on validation, and where they are kept.

    calibrate      fit what the run asks for, let the model answer with it, tell what it brought
    recorded       the same of a finished run, from its metrics.json
    apply          let a model answer with it

They belong to one checkpoint, the best, whose step is kept with them. They lie in metrics.json
under "calibration": it is written once, whole, when the run is finished, and is taken away when
it goes on, so that a run and what was fitted to it never disagree. The temperature is first fitted,
then thresholds to the probabilities that it leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bertft.config.command_configs import TrainConfig
from bertft.data.features import FeatureTable
from bertft.errors import DataError
from bertft.pipeline.task_model import TaskModel
from bertft.runs.metrics_json import read_metrics_json
from bertft.runs.run_folder import RunFolder
from bertft.tasks.shared.calibration import CALIBRATION_BINS
from bertft.tasks.task import Threshold
from bertft.training.distributed import DistributedContext
from bertft.training.evaluate import evaluation_transform, predict_logits
from bertft.utils.messages import invalid_entry

__all__ = [
    "apply_calibration",
    "calibrate",
    "is_calibration_requested",
    "parse_threshold",
    "read_calibration",
]


def is_calibration_requested(config: TrainConfig) -> bool:
    """Whether ``config`` wants anything fitted."""
    return config.calibrate is not None or config.tune_threshold


def calibrate(
    config: TrainConfig,
    task_model: TaskModel,
    table: FeatureTable,
    step: int,
    ranks: DistributedContext,
    warn: Callable[[str], None],
) -> tuple[dict[str, Any], dict[str, float], np.ndarray]:
    """What was fitted to the answers to ``table`` (validation), as metrics.json keeps it.

    "ece" and "loss" before and after the temperature, "tuned" a metric before and after the
    threshold; null what was not asked for. The model answers with it from then on: the other two
    are its metrics, and its logits, which an evaluation would give again to the last bit.
    """
    task = task_model.task
    logits = predict_logits(
        task_model.runner,
        table,
        task_model.precision,
        distributed=ranks,
        transform=evaluation_transform(task),
        columns=task.label_columns,
    )
    calibration, metrics = ranks.broadcast_object(
        lambda: _fit(config, task_model, table, step, logits, warn)
    )
    apply_calibration(calibration, task_model)
    return calibration, metrics, _divide_by_temperature(logits, calibration["temperature"])


def _divide_by_temperature(logits: np.ndarray, temperature: float | None) -> np.ndarray:
    """What the model answers with ``temperature``: a true division in fp32 (EncoderRunner)."""
    return logits if temperature is None else logits / np.float32(temperature)


def _fit(
    config: TrainConfig,
    task_model: TaskModel,
    table: FeatureTable,
    step: int,
    logits: np.ndarray,
    warn: Callable[[str], None],
) -> tuple[dict[str, Any], dict[str, float]]:
    task = task_model.task
    calibration: dict[str, Any] = {
        "step": step,
        "rows": len(table),
        "temperature": None,
        "threshold": None,
    }
    if config.calibrate is not None:
        temperature = task.best_temperature(logits, table)
        if temperature is None:
            warn(
                "no temperature fits: the loss on validation only falls as the logits grow, for"
                " every answer is right, or as they vanish; it stays 1"
            )
        scaled = _divide_by_temperature(logits, temperature)
        logits_by_stage = {"before": logits, "after": scaled}
        calibration |= {
            "temperature": temperature,
            "bins": CALIBRATION_BINS,
            "ece": {
                name: task.calibration_error(each, table) for name, each in logits_by_stage.items()
            },
            "loss": {
                name: task.compute_all_metrics(each, table)["loss"]
                for name, each in logits_by_stage.items()
            },
        }
        logits = scaled
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
    return calibration, metrics


def apply_calibration(calibration: Mapping[str, Any], task_model: TaskModel) -> None:
    """Divide the logits by the temperature that was found, decide by the threshold."""
    task_model.runner.temperature = calibration["temperature"]
    if calibration["threshold"] is not None:
        task_model.task.set_threshold(calibration["threshold"])


def read_calibration(run: RunFolder, step: int | None = None) -> dict[str, Any] | None:
    """What was fitted to the checkpoint of ``step`` (None: to any); None if nothing was.

    DataError where it is of another form.
    """
    if not run.is_finished:
        return None
    calibration = read_metrics_json(run.metrics_path).get("calibration")
    if calibration is not None and not _is_calibration(calibration):
        raise DataError(invalid_entry("calibration", calibration), where=str(run.metrics_path))
    run.verify_seal(run.metrics_path)  # what is in it, or is not, decides answers
    return calibration if calibration is not None and step in (None, calibration["step"]) else None


def parse_threshold(value: Any, where: str) -> Threshold | None:
    """Of a folder's file. DataError unless it is one, or null."""
    if value is not None and not _is_threshold(value):
        raise DataError(f"{value!r} is no threshold", where=where, hint="It lies between 0 and 1")
    return value


def _is_threshold(value: Any) -> bool:
    """A probability, or one for each of several names."""
    probabilities = list(value.values()) if isinstance(value, dict) and value else [value]
    return all(type(number) is float and 0 < number < 1 for number in probabilities)


def _is_calibration(value: Any) -> bool:
    if not isinstance(value, dict) or type(value.get("step")) is not int:
        return False
    temperature, threshold = value.get("temperature"), value.get("threshold")
    has_temperature = temperature is None or (
        type(temperature) is float and 1e-6 < temperature < 1e6
    )
    return has_temperature and (threshold is None or _is_threshold(threshold))
