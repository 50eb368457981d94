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

from bertft.assembly.adapted import Adapted
from bertft.config.commands import TrainConfig
from bertft.config.messages import invalid_entry
from bertft.data.table import FeatureTable
from bertft.errors import DataError
from bertft.runs.folder import RunFolder
from bertft.runs.result import read_result
from bertft.tasks.calibration.temperature import BINS
from bertft.tasks.task import Threshold
from bertft.training.evaluate import predict_logits, scored
from bertft.training.ranks import Ranks

__all__ = ["apply", "as_threshold", "asked", "calibrate", "recorded"]


def asked(config: TrainConfig) -> bool:
    """Whether ``config`` wants anything fitted."""
    return config.calibrate is not None or config.tune_threshold


def calibrate(
    config: TrainConfig,
    adapted: Adapted,
    table: FeatureTable,
    step: int,
    ranks: Ranks,
    warn: Callable[[str], None],
) -> tuple[dict[str, Any], dict[str, float], np.ndarray]:
    """What was fitted to the answers to ``table`` (validation), as metrics.json keeps it.

    "ece" and "loss" before and after the temperature, "tuned" a metric before and after the
    threshold; null what was not asked for. The model answers with it from then on: the other two
    are its metrics, and its logits, which an evaluation would give again to the last bit.
    """
    task = adapted.task
    logits = predict_logits(
        adapted.runner, table, adapted.precision, ranks=ranks, prepare=scored(task),
        columns=task.label_columns,
    )  # fmt: skip
    told, metrics = ranks.told(lambda: _fit(config, adapted, table, step, logits, warn))
    apply(told, adapted)
    return told, metrics, _scaled(logits, told["temperature"])


def _scaled(logits: np.ndarray, temperature: float | None) -> np.ndarray:
    """What the model answers with ``temperature``: a true division in fp32 (EncoderRunner)."""
    return logits if temperature is None else logits / np.float32(temperature)


def _fit(
    config: TrainConfig,
    adapted: Adapted,
    table: FeatureTable,
    step: int,
    logits: np.ndarray,
    warn: Callable[[str], None],
) -> tuple[dict[str, Any], dict[str, float]]:
    task = adapted.task
    told: dict[str, Any] = {
        "step": step, "rows": len(table), "temperature": None, "threshold": None,
    }  # fmt: skip
    if config.calibrate is not None:
        temperature = task.temperature(logits, table)
        if temperature is None:
            warn(
                "no temperature fits: the loss on validation only falls as the logits grow, for"
                " every answer is right, or as they vanish; it stays 1"
            )
        scaled = _scaled(logits, temperature)
        sides = {"before": logits, "after": scaled}
        told |= {
            "temperature": temperature,
            "bins": BINS,
            "ece": {name: task.calibration_error(each, table) for name, each in sides.items()},
            "loss": {name: task.all_metrics(each, table)["loss"] for name, each in sides.items()},
        }
        logits = scaled
    metrics = task.all_metrics(logits, table)
    if config.tune_threshold:
        before = metrics
        threshold, metric = task.best_threshold(logits, table)
        task.decide_by(threshold)
        metrics = task.all_metrics(logits, table)
        told["threshold"] = threshold
        told["tuned"] = {"metric": metric, "before": before[metric], "after": metrics[metric]}
    return told, metrics


def apply(told: Mapping[str, Any], adapted: Adapted) -> None:
    """Divide the logits by the temperature that was found, decide by the threshold."""
    adapted.runner.temperature = told["temperature"]
    if told["threshold"] is not None:
        adapted.task.decide_by(told["threshold"])


def recorded(run: RunFolder, step: int | None = None) -> dict[str, Any] | None:
    """What was fitted to the checkpoint of ``step`` (None: to any); None if nothing was.

    DataError where it is of another form.
    """
    if not run.finished:
        return None
    told = read_result(run.metrics).get("calibration")
    if told is not None and not _is_calibration(told):
        raise DataError(invalid_entry("calibration", told), where=str(run.metrics))
    run.check_seal(run.metrics)  # what is in it, or is not, decides answers
    return told if told is not None and step in (None, told["step"]) else None


def as_threshold(value: Any, where: str) -> Threshold | None:
    """Of a folder's file. DataError unless it is one, or null."""
    if value is not None and not _is_threshold(value):
        raise DataError(f"{value!r} is no threshold", where=where, hint="It lies between 0 and 1")
    return value


def _is_threshold(value: Any) -> bool:
    """A probability, or one for each of several names."""
    each = list(value.values()) if isinstance(value, dict) and value else [value]
    return all(type(number) is float and 0 < number < 1 for number in each)


def _is_calibration(told: Any) -> bool:
    if not isinstance(told, dict) or type(told.get("step")) is not int:
        return False
    temperature, threshold = told.get("temperature"), told.get("threshold")
    divides = temperature is None or (type(temperature) is float and 1e-6 < temperature < 1e6)
    return divides and (threshold is None or _is_threshold(threshold))
