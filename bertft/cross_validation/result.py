"""The result of a cross-validation: metrics over the folds, and every row's prediction.

    mean = Σ_f m_f / F        std = sqrt(Σ_f (m_f − mean)² / (F − 1))        F: folds × repetitions

The training rows of two folds overlap, so that the m_f are not independent: std describes how much
they vary, and std / sqrt(F) is not the standard error of the mean (Bengio & Grandvalet 2004). The
95 % interval is a bootstrap over the rows: a resample draws rows (all rows of a group at once) with
replacement, each m_f is computed on the drawn rows of its fold, and their mean is taken. A row has
the same weight in all repetitions. It describes the uncertainty from the choice of the rows, not
that from the training rows or the seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bertft.config.command_configs import TrainConfig
from bertft.config.resume import read_run_config
from bertft.cross_validation.fold_outputs import FoldOutputs, load_fold_outputs
from bertft.data.hold_out import value_codes
from bertft.data.rows import Rows
from bertft.data.schema import RowSchema
from bertft.errors import DataError
from bertft.pipeline.manifest import recorded_data
from bertft.report.compare.bootstrap import resample_weights
from bertft.report.intervals import DRAWS, MAX_ROWS, Intervals, intervals_of_draws
from bertft.runs.manifest import read_manifest
from bertft.runs.metrics_json import read_metrics_json
from bertft.runs.run_folder import RunFolder
from bertft.tasks.task import BaseTask, build_task
from bertft.utils.metric_names import overall_metrics

__all__ = [
    "CrossValidation",
    "FoldResult",
    "MetricSummary",
    "fold_mean_intervals",
    "read_cross_validation",
]


@dataclass(frozen=True)
class FoldResult:
    """One finished run.

    Attributes:
        metrics: those on the rows of the fold.
        training_rows: rows that the run was trained on.
        step: the optimizer step of the best checkpoint.
        seconds: the time of its training.
    """

    fold: int
    repeat: int
    folder: Path
    metrics: dict[str, float]
    training_rows: int
    step: int | None
    seconds: float
    outputs: FoldOutputs


@dataclass(frozen=True)
class MetricSummary:
    """A metric over the folds; ``interval`` is None if it cannot be computed."""

    name: str
    mean: float
    std: float
    interval: tuple[float, float] | None
    values: Sequence[float]


@dataclass(frozen=True)
class CrossValidation:
    """A complete cross-validation.

    Attributes:
        config: the configuration of the first fold.
        rows: all rows of data.train that can be used.
        folds: by repetition, then by fold.
        metrics: the metrics over all rows of a fold, the selection metric first.
    """

    folder: Path
    config: TrainConfig
    rows: Rows
    schema: RowSchema
    task: BaseTask
    folds: Sequence[FoldResult]
    metrics: Sequence[MetricSummary]

    @property
    def repeats(self) -> int:
        return max(result.repeat for result in self.folds)

    @property
    def fold_count(self) -> int:
        return max(result.fold for result in self.folds)

    @property
    def unpredicted_rows(self) -> int:
        """The rows without a prediction, because they have no tokens."""
        predicted = sum(len(result.outputs.lines) for result in self.folds if result.repeat == 1)
        return len(self.rows) - predicted


def read_cross_validation(
    folder: Path, job_folders: Sequence[Path], rows: Rows, schema: RowSchema
) -> CrossValidation:
    """The result of finished runs.

    Args:
        folder: the folder of the cross-validation.
        job_folders: those of its runs.
        rows: all rows of data.train.

    Raises:
        DataError: a file of a run is damaged, or the rows have changed since training.
    """
    configs = [read_run_config(job) for job in job_folders]
    results = [_read_fold(job, config) for job, config in zip(job_folders, configs, strict=True)]
    results.sort(key=lambda result: (result.repeat, result.fold))
    _check_coverage(rows, results)
    manifest = read_manifest(RunFolder(job_folders[0]))
    task = build_task(recorded_data(configs[0].data, manifest), manifest["labels"])
    metrics = _summarize(task, results, rows, schema)
    return CrossValidation(folder, configs[0], rows, schema, task, results, metrics)


def _read_fold(folder: Path, config: TrainConfig) -> FoldResult:
    run = RunFolder(folder)
    metrics = read_metrics_json(run.metrics_path)
    if metrics["test"] is None:
        raise DataError(
            "the run has no metrics on the rows of its fold",
            where=str(folder),
            hint="Remove this folder and repeat the command",
        )
    splits = read_manifest(run)["data"]["splits"]
    outputs = load_fold_outputs(run, config.trainer.device, config.model.trust_remote_code)
    return FoldResult(
        config.data.fold,
        config.data.repeat,
        folder,
        metrics["test"],
        splits["train"]["rows"],
        metrics["best"]["step"],
        metrics["train"]["seconds"],
        outputs,
    )


def _check_coverage(rows: Rows, results: Sequence[FoldResult]) -> None:
    """RuntimeError, a bug, unless every repetition predicts each row at most once."""
    known = np.array(rows.column("line"), np.int64)
    for repeat in {result.repeat for result in results}:
        lines = np.concatenate(
            [result.outputs.lines for result in results if result.repeat == repeat]
        )
        if len(np.unique(lines)) != len(lines) or not np.isin(lines, known).all():
            raise RuntimeError(f"repetition {repeat}: rows are in no fold or in several folds")


def _summarize(
    task: BaseTask, results: Sequence[FoldResult], rows: Rows, schema: RowSchema
) -> list[MetricSummary]:
    names = overall_metrics(results[0].metrics, task.metric)
    lines = np.array(rows.column("line"), np.int64)
    units = np.arange(len(rows))
    if schema.group_field is not None:
        units = value_codes(rows, schema.group_field).astype(np.int64)
    intervals = fold_mean_intervals(
        task,
        [result.outputs.statistics for result in results],
        [units[np.searchsorted(lines, result.outputs.statistic_lines)] for result in results],
        int(units.max()) + 1,
    )
    summaries = []
    for name in names:
        values = [result.metrics.get(name) for result in results]
        summaries.append(summarize_metric(name, values, intervals.get(name)))
    return summaries


def summarize_metric(
    name: str, values: Sequence[float | None], interval: tuple[float, float] | None
) -> MetricSummary:
    """Mean and std of the ``values`` of the folds: NaN if a fold has None, an undefined metric."""
    numbers = [math.nan if value is None else value for value in values]
    mean, std = float(np.mean(numbers)), float(np.std(numbers, ddof=1))
    return MetricSummary(name, mean, std, interval, numbers)


def fold_mean_intervals(
    task: BaseTask,
    statistics: Sequence[np.ndarray],
    units: Sequence[np.ndarray],
    unit_count: int,
    draws: int = DRAWS,
    seed: int = 0,
) -> Intervals:
    """The 95 % intervals of the means of metrics over folds, by a bootstrap over units.

    Empty if a fold has no statistics or no row in a resample, or for more than 200,000 rows. A
    metric that is undefined in a resample is left out, and one that is equal in all.

    Args:
        statistics: fp64 [S, K] of the rows of each fold.
        units: int64 [S] of each fold, the unit of each row: itself, or its group.
    """
    if unit_count < 2 or not all(map(len, statistics)) or sum(map(len, statistics)) > MAX_ROWS:
        return {}
    chunks: list[dict[str, np.ndarray]] = []
    for weights in resample_weights(unit_count, draws, seed):
        weights_by_fold = [weights[:, unit] for unit in units]
        if not all(fold_weights.any(1).all() for fold_weights in weights_by_fold):
            return {}
        folds = [
            task.metrics_from_statistics(terms, fold_weights)
            for terms, fold_weights in zip(statistics, weights_by_fold, strict=True)
        ]
        chunks.append({name: np.mean([fold[name] for fold in folds], 0) for name in folds[0]})
    return intervals_of_draws(chunks)
