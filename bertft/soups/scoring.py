"""The validation rows of a soup in two halves: one chooses among runs, the other one reports.

The halves are a seeded permutation of the rows. A metric of a half is computed from statistics of
its rows (``BaseTask.per_row_statistics``), and so is the paired bootstrap of the differences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from bertft.data.features import FeatureTable
from bertft.data.halves import first_half
from bertft.errors import DataError, UsageError
from bertft.pipeline.loaded_model import LoadedModel
from bertft.pipeline.recorded_rows import load_split
from bertft.report.compare.bootstrap import Difference, bootstrap_metrics, paired_difference
from bertft.soups.sources import SoupSource
from bertft.tasks.task import BaseTask
from bertft.training.evaluate import evaluation_outputs
from bertft.utils.status import show_status

__all__ = ["DRAWS", "HalfScores", "RowScorer"]

DRAWS = 2_000
_MIN_ROWS = 4
_SPLIT = "validation"


@dataclass(frozen=True)
class HalfScores:
    """The metric of a model on both halves, and ``statistics`` [R, K] of the rows that report."""

    choosing: float
    reported: float
    statistics: np.ndarray


class RowScorer:
    """Scores models on the validation rows that all runs of a soup have.

    Args:
        sources: The runs.
        first: The first run, loaded.
        seed: Seed of the halves.

    Raises:
        UsageError: The runs have no or different validation rows, or the metric cannot be computed
            from statistics of rows.
        DataError: The rows have changed since training.
    """

    def __init__(self, sources: Sequence[SoupSource], first: LoadedModel, seed: int) -> None:
        for source in sources:
            fingerprint = source.validation_fingerprint
            if fingerprint is None or fingerprint != sources[0].validation_fingerprint:
                raise UsageError(
                    f"{source.name} has no validation rows"
                    if fingerprint is None
                    else f"{sources[0].name} and {source.name} have different validation rows",
                    where="runs",
                    hint="Set how=mean, or train the runs with the same data.validation=<file>",
                )
        self.task: BaseTask = first.task_model.task
        rows = load_split(first, _SPLIT)
        self.features: FeatureTable = first.build_features(_SPLIT, rows)
        self.seed = seed
        self._chooses: np.ndarray | None = None

    @property
    def metric(self) -> str:
        return self.task.metric

    @property
    def averages_logits(self) -> bool:
        """Whether the task computes its metrics from logits, which an ensemble can average."""
        return type(self.task).reduce_outputs is BaseTask.reduce_outputs

    @property
    def half_sizes(self) -> tuple[int, int]:
        """Numbers of the rows that choose, and of those that report."""
        assert self._chooses is not None, "after the first score"
        count = int(self._chooses.sum())
        return count, len(self._chooses) - count

    def outputs(self, loaded: LoadedModel) -> np.ndarray:
        """The outputs of a model on all validation rows."""
        show_status("evaluating", total=len(self.features))
        model = loaded.task_model
        return evaluation_outputs(model.runner, self.task, self.features, model.precision)

    def score(self, outputs: np.ndarray) -> HalfScores:
        """The metric of ``outputs`` on both halves."""
        per_row = self.task.per_row_statistics(outputs, self.features)
        if per_row is None:
            raise DataError(
                f"the metrics of data.task={self.task.name} cannot be computed from statistics of"
                " single rows, or an output of a run is not finite",
                where="runs",
                hint="Set how=mean, which does not need scores of the runs",
            )
        statistics = per_row[1]
        if self._chooses is None:
            self._chooses = self._split(len(statistics))
        values = self.task.metrics_from_statistics(
            statistics, np.stack([self._chooses, ~self._chooses]).astype(np.float64)
        )
        if self.metric not in values:
            raise UsageError(
                f"data.metric={self.metric} cannot be computed from statistics of single rows, by"
                " which runs are compared",
                where="runs",
                hint="Set how=mean, or train with another data.metric, such as"
                f" {self.task.default_metric}",
            )
        choosing, reported = values[self.metric]
        return HalfScores(float(choosing), float(reported), statistics[~self._chooses])

    def _split(self, rows: int) -> np.ndarray:
        if rows < _MIN_ROWS:
            raise UsageError(
                f"{rows} validation rows are too few for two halves",
                where="runs",
                hint=f"Set how=mean, or train with at least {_MIN_ROWS} validation rows",
            )
        return first_half(rows, self.seed)

    def difference(self, one: HalfScores, other: HalfScores) -> Difference:
        """Of the metric on the rows that report, with a paired bootstrap of these rows."""
        metrics = [partial(self._reweighted, scores.statistics) for scores in (one, other)]
        values = bootstrap_metrics(metrics, len(one.statistics), DRAWS)
        return paired_difference(values[:1], values[1:])

    def _reweighted(self, statistics: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return self.task.metrics_from_statistics(statistics, weights)[self.metric]
