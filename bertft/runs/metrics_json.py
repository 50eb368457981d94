"""``metrics.json``: the results of a finished run, with typed entries.

Reading validates the entries that every run has. The code that uses an optional entry validates it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

from bertft.errors import DataError
from bertft.utils.messages import invalid_entry, quote_value
from bertft.utils.safe_files import DAMAGED_FILE_HINT, read_json_object

__all__ = ["Calibration", "ParameterCounts", "RunMetrics", "TrainingResult", "read_metrics_json"]


class BestResult(TypedDict):
    """The best evaluation on validation; value and step are None without one."""

    metric: str
    value: float | None
    step: int | None
    higher_is_better: NotRequired[bool]  # of a Python function in data.metric


class TrainingResult(TypedDict):
    """Duration, throughput and loss of all steps; ``loss`` is None if it is not finite."""

    seconds: float
    rows_per_second: float
    tokens_per_second: float
    peak_memory_bytes: int | None
    steps: int
    loss: float | None


class ParameterCounts(TypedDict):
    """Numbers of parameters: ``TaskModel.count_parameters`` describes them."""

    total: int
    trainable: int
    head: int
    method: int
    kept: int
    exported: int


class Calibration(TypedDict):
    """Temperature, decision threshold, prediction sets; optional entries exist if enabled."""

    step: int
    rows: int
    temperature: float | None
    threshold: float | dict[str, float] | None
    bins: NotRequired[int]
    ece: NotRequired[dict[str, float]]
    loss: NotRequired[dict[str, float]]
    tuned: NotRequired[dict[str, Any]]
    conformal: NotRequired[dict[str, Any]]  # ``bertft.tasks.shared.conformal.ConformalSets``
    observed: NotRequired[dict[str, float]]  # the sets on the rows that report


class RunMetrics(TypedDict):
    """The content of metrics.json. The metrics of a split are None if it was not evaluated."""

    best: BestResult
    validation: dict[str, float] | None
    test: dict[str, float] | None
    train: TrainingResult
    parameters: ParameterCounts
    calibration: NotRequired[Calibration]
    distillation: NotRequired[dict[str, Any]]
    findings: NotRequired[list[dict[str, Any]]]
    module_values: NotRequired[dict[str, dict[str, dict[str, float]]]]  # of components


def read_metrics_json(file: Path) -> RunMetrics:
    """The result that ``bertft train`` wrote to ``file``. DataError if an entry is invalid."""
    metrics = read_json_object(file)
    for path, is_valid in _ENTRY_CHECKS.items():
        *parents, last = path.split(".")
        group: Any = metrics
        for name in parents:
            group = group.get(name) if isinstance(group, dict) else None
        value = group.get(last) if isinstance(group, dict) else None
        if not is_valid(value):
            raise DataError(invalid_entry(path, value), where=str(file), hint=DAMAGED_FILE_HINT)
        if value is None:
            if not isinstance(group, dict):
                raise DataError(f"has no {parents[0]!r}", where=str(file), hint=DAMAGED_FILE_HINT)
            group[last] = None  # an entry that can be null can be missing
    values = metrics.get("module_values", {})
    if not _are_module_values(values):
        text = invalid_entry("module_values", values)
        raise DataError(text, where=str(file), hint=DAMAGED_FILE_HINT)
    metric = metrics["best"]["metric"]
    for split in ("validation", "test"):
        if metrics[split] is not None and metric not in metrics[split]:
            raise DataError(
                f"{split!r} has no {quote_value(metric)}, the metric of 'best'",
                where=str(file),
                hint=DAMAGED_FILE_HINT,
            )
    return cast(RunMetrics, metrics)


def _is_number(value: Any) -> bool:
    is_real = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_real and abs(value) < 1e300 and math.isfinite(value)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 62


def _or_none(is_valid: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or is_valid(value)


def _are_module_values(value: Any) -> bool:
    """component → name of a value → module → number"""
    for _ in range(2):
        if not isinstance(value, dict) or not all(isinstance(v, dict) for v in value.values()):
            return False
        value = {(key, name): v for key, group in value.items() for name, v in group.items()}
    return all(map(_is_number, value.values()))


def _is_score_mapping(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_or_none(_is_number), value.values()))


_ENTRY_CHECKS: dict[str, Callable[[Any], bool]] = {
    "best.metric": lambda value: isinstance(value, str),
    "best.value": _or_none(_is_number),
    "best.step": _or_none(_is_count),
    "validation": _or_none(_is_score_mapping),
    "test": _or_none(_is_score_mapping),
    "train.seconds": _is_number,
    "train.rows_per_second": _is_number,
    "train.tokens_per_second": _is_number,
    "train.peak_memory_bytes": _or_none(_is_count),
    "train.steps": _is_count,
    "train.loss": _or_none(_is_number),
    **{
        f"parameters.{name}": _is_count
        for name in ("total", "trainable", "head", "method", "kept", "exported")
    },
}
