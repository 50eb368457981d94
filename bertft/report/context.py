"""The data that a report is built from: the records of a finished run and its best model."""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from bertft.config.command_configs import TrainConfig
from bertft.data.features import FeatureTable
from bertft.data.findings import Finding, read_findings
from bertft.methods.component import MethodComponent
from bertft.report.intervals import Intervals
from bertft.runs.run_folder import RunFolder
from bertft.tasks.task import BaseTask
from bertft.utils.safe_files import open_regular_file

__all__ = ["History", "ReportContext", "Series", "read_history"]

Series = tuple[list[float], list[float]]  # steps, values


@dataclass
class ReportContext:
    """The input of all sections of a report.

    Attributes:
        run: The run folder.
        config: The settings of the run.
        metrics: The content of metrics.json.
        parameter_counts: Parameters of the best model per component, after pruning.
        task: The task, with the tuned threshold if there is one.
        components: The components of the method.
        model: The model with the best weights.
        validation: Features of the validation rows, if any.
        outputs: Outputs of the best model on ``validation``; None if they are not available.
        padding_fractions: Layout → fraction of token positions that are padding.
        intervals: Split → metric → ends of its 95 % confidence interval.
        has_prefix: Whether the method has a prefix, which ``merge`` cannot fold.
    """

    run: RunFolder
    config: TrainConfig
    metrics: Mapping[str, Any]
    parameter_counts: Mapping[str, Any]
    task: BaseTask
    components: Sequence[MethodComponent]
    model: nn.Module
    validation: FeatureTable | None
    outputs: np.ndarray | None
    padding_fractions: Mapping[str, float]
    intervals: Mapping[str, Intervals]
    has_prefix: bool

    @cached_property
    def manifest(self) -> dict[str, Any]:
        return self.run.read_manifest()

    @cached_property
    def findings(self) -> list[Finding]:
        """Findings on the data and on the predictions; none in runs of earlier versions."""
        return read_findings(self.metrics, self.manifest)

    @cached_property
    def history(self) -> History:
        return read_history(self.run)


def _new_series() -> dict[str, Series]:
    return defaultdict(lambda: ([], []))


@dataclass
class History:
    """Curves by name, from metrics.jsonl and timings.jsonl. A null in the file is NaN here.

    The steps that a retry after a collapse replaced are left out.
    ``skipped_steps`` counts steps that were not applied. ``stop_reason`` is None for a run that was
    not recorded as finished.
    """

    loss: Series = field(default_factory=lambda: ([], []))
    learning_rates: dict[str, Series] = field(default_factory=_new_series)
    component_metrics: dict[str, Series] = field(default_factory=_new_series)
    evaluations: dict[str, Series] = field(default_factory=_new_series)
    tokens_per_second: Series = field(default_factory=lambda: ([], []))
    skipped_steps: int = 0
    stop_reason: str | None = None


def read_history(run: RunFolder) -> History:
    """Read both log files. OSError or ValueError if they cannot be read."""
    history = History()
    for record in _read_records(run.metrics_log_path):
        step = record["step"]
        match record["event"]:
            case "step":
                _append_point(history.loss, step, record["loss"])
                for name, value in record["learning_rates"].items():
                    _append_point(history.learning_rates[name], step, value)
                for name, value in record["measures"].items():
                    _append_point(history.component_metrics[name], step, value)
            case "evaluated":
                for name, value in record["metrics"].items():
                    _append_point(history.evaluations[name], step, value)
            case "skipped":
                history.skipped_steps += 1
            case "retried":
                groups = (history.learning_rates, history.component_metrics, history.evaluations)
                for series in (
                    history.loss,
                    *(curve for group in groups for curve in group.values()),
                ):
                    _remove_points_after(series, step)
            case "finished":
                history.stop_reason = record["reason"]
    for record in _read_records(run.timings_log_path):
        if record["event"] == "step":
            _append_point(history.tokens_per_second, record["step"], record["tokens_per_second"])
        elif record["event"] == "retried":
            _remove_points_after(history.tokens_per_second, record["step"])
    return history


def _read_records(path: Path) -> Iterator[dict[str, Any]]:
    with TextIOWrapper(open_regular_file(path), encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _remove_points_after(series: Series, step: int) -> None:
    kept = bisect_right(series[0], step)
    for values in series:
        del values[kept:]


def _append_point(series: Series, step: int, value: float | None) -> None:
    series[0].append(step)
    series[1].append(math.nan if value is None else value)
