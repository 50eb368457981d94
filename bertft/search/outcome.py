"""The results of a run at the rungs of a search, from the files of its folder."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bertft.config.task_facts import LOWER_IS_BETTER
from bertft.config.trainer import step_at
from bertft.errors import BertftError, SweepError
from bertft.runs.metrics_json import RunMetrics, read_metrics_json
from bertft.runs.run_folder import LOCKED, RunFolder, continue_hint
from bertft.search.halving import RungResult
from bertft.utils.safe_files import open_regular_file, read_json_object

__all__ = [
    "Evaluation",
    "has_nan_metric",
    "is_lower_better",
    "read_evaluations",
    "read_results",
]

_INFORMED = 0.99  # of the input-free loss: below it, the predictions depend on the input
_JOB_FILE = "job.json"  # see bertft.report.sweep


@dataclass(frozen=True)
class Evaluation:
    """The selection metric after ``step`` steps, and the validation loss if the task has it.

    The ``value`` is NaN if the metric is not finite. ``input_free_loss``: the validation loss of
    the best prediction that ignores the input; None if it is not known.
    """

    step: int
    value: float
    loss: float | None
    input_free_loss: float | None = None

    @property
    def result(self) -> RungResult:
        """As the result at a rung."""
        bound = self.input_free_loss
        is_informed = bound is None or (self.loss is not None and self.loss < _INFORMED * bound)
        return RungResult(self.value, self.loss, is_informed)


def read_evaluations(run: RunFolder) -> list[Evaluation]:
    """The evaluations with a finite metric, in the order of their steps."""
    return [evaluation for evaluation in _iter_evaluations(run) if math.isfinite(evaluation.value)]


def has_nan_metric(run: RunFolder) -> bool:
    """Whether the metric of an evaluation is not finite."""
    return any(math.isnan(evaluation.value) for evaluation in _iter_evaluations(run))


def _iter_evaluations(run: RunFolder) -> Iterator[Evaluation]:
    with open_regular_file(run.metrics_log_path) as file:
        for line in file:
            record = json.loads(line)
            if record["event"] != "evaluated":
                continue
            value = record["metrics"][record["metric"]]
            value = math.nan if value is None else value
            yield Evaluation(
                record["step"], value, record["metrics"].get("loss"), record.get("input_free_loss")
            )


def is_lower_better(metrics: RunMetrics) -> bool:
    """Whether a lower value of the selection metric is better."""
    best = metrics["best"]
    return best["metric"] in LOWER_IS_BETTER or best.get("higher_is_better") is False


def read_results(
    folder: Path, fractions: Sequence[float], lower_is_better: bool
) -> tuple[list[RungResult], str | None]:
    """The results of the run in ``folder`` at ``fractions`` of its steps, and why it failed.

    A run that ended early (trainer.patience) has reached every rung.

    Raises:
        SweepError: the run has neither reached the last of ``fractions`` nor failed.
    """
    run = RunFolder(folder)
    try:
        error = read_json_object(folder / _JOB_FILE).get("error")
        if error is not None and LOCKED in str(error):  # of an earlier command that was killed
            raise SweepError(
                str(error), hint="Wait until that process ends, and repeat the command"
            )
        if error is not None:
            return [], str(error)
        is_finished = run.is_finished
        if not is_finished and fractions[-1] == 1:
            raise _unfinished_error(folder)
        evaluations, total = list(_iter_evaluations(run)), run.read_manifest()["total_steps"]
        results: list[RungResult] = []
        for fraction in fractions:
            step = step_at(fraction, total)
            if not is_finished and (not evaluations or evaluations[-1].step < step):
                raise _unfinished_error(folder)
            result = (
                _final_result(run, evaluations)
                if fraction == 1
                else _best_until(evaluations, step, lower_is_better)
            )
            if result is None:
                if not evaluations:
                    return results, "there is no validation metric to rank it by"
                return results, f"no evaluation up to step {step} has a finite metric"
            results.append(result)
    except SweepError:
        raise
    except (BertftError, OSError, ValueError, LookupError, TypeError) as error:
        return [], f"its files cannot be read ({error})"
    return results, None


def _best_until(
    evaluations: Sequence[Evaluation], step: int, lower_is_better: bool
) -> RungResult | None:
    candidates = [one for one in evaluations if one.step <= step and math.isfinite(one.value)]
    if not candidates:
        return None
    results = [one.result for one in sorted(candidates, key=lambda one: one.step)]
    return min(results, key=lambda result: result.sort_key(lower_is_better))


def _final_result(run: RunFolder, evaluations: Sequence[Evaluation]) -> RungResult | None:
    """The result in metrics.json: that of the best checkpoint."""
    best = read_metrics_json(run.metrics_path)["best"]
    if best["value"] is None:
        return None
    losses = [evaluation.loss for evaluation in evaluations if evaluation.step == best["step"]]
    return RungResult(best["value"], losses[0] if losses else None)


def _unfinished_error(folder: Path) -> SweepError:
    return SweepError(
        "the run did not finish",
        where=str(folder),
        hint=continue_hint(folder.parent),
    )
