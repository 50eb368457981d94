"""What a report is made of: all that a finished run knows, and the model that it kept."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import numpy as np

from bertft.config.command_configs import TrainConfig
from bertft.methods.component import MethodComponent
from bertft.runs.run_folder import RunFolder
from bertft.tasks.task import BaseTask
from bertft.utils.safe_files import open_regular_file

__all__ = [
    "History",
    "ReportContext",
    "Series",
    "read_history",
]


Series = tuple[list[float], list[float]]  # steps, values


def _new_series() -> dict[str, Series]:
    return defaultdict(lambda: ([], []))


@dataclass
class History:
    """Name → series; NaN where the file has null. ``skipped_steps`` steps were not applied."""

    loss: Series = field(default_factory=lambda: ([], []))
    learning_rates: dict[str, Series] = field(default_factory=_new_series)
    component_metrics: dict[str, Series] = field(default_factory=_new_series)
    evaluations: dict[str, Series] = field(default_factory=_new_series)
    tokens_per_second: Series = field(default_factory=lambda: ([], []))
    skipped_steps: int = 0
    stop_reason: str | None = None


def read_history(run: RunFolder) -> History:
    """All that both files tell. OSError or ValueError where they cannot be read."""
    history = History()
    for line in _read_lines(run.metrics_log_path):
        step = line["step"]
        match line["event"]:
            case "step":
                _append_point(history.loss, step, line["loss"])
                for name, value in line["learning_rates"].items():
                    _append_point(history.learning_rates[name], step, value)
                for name, value in line["measures"].items():
                    _append_point(history.component_metrics[name], step, value)
            case "evaluated":
                for name, value in line["metrics"].items():
                    _append_point(history.evaluations[name], step, value)
            case "skipped":
                history.skipped_steps += 1
            case "finished":
                history.stop_reason = line["reason"]
    for line in _read_lines(run.timings_log_path):
        if line["event"] == "step":
            _append_point(history.tokens_per_second, line["step"], line["tokens_per_second"])
    return history


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    with TextIOWrapper(open_regular_file(path), encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _append_point(series: Series, step: int, value: float | None) -> None:
    series[0].append(step)
    series[1].append(math.nan if value is None else value)


@dataclass
class ReportContext:
    """``model`` is the best one, with its ``components``; ``validation`` its features, if any.

    ``outputs``: what the task's metrics of the best model were made of; None: they are not there,
    and ``missing_outputs_reason`` says why. ``parameter_counts`` are those of the best model's
    parameters, by part, after pruning; ``padding_fractions``: layout → share of cells without a
    token.
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
