"""The learning curves of the compared runs, all in one plot."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from bertft.report.compare.comparison import Comparison
from bertft.report.context import History, read_history
from bertft.runs.run_folder import RunFolder
from bertft.tasks.report_items import LineChart

__all__ = ["learning_curves"]

_MAX_CURVES = 8  # more lines could not be distinguished


def learning_curves(comparison: Comparison) -> Iterator[LineChart]:
    """The selection metric on validation (two evaluations or more), and the training loss.

    The best row comes first, and the first seed of every row before the other seeds.
    """
    histories = dict(_iter_histories(comparison))
    shown = dict(list(histories.items())[:_MAX_CURVES])
    note = "" if len(shown) == len(histories) else f" {len(shown)} of {len(histories)} runs."
    metrics = {
        name: history.evaluations[comparison.metric]
        for name, history in shown.items()
        if comparison.metric in history.evaluations
    }
    if any(len(steps) > 1 for steps, _ in metrics.values()):
        note_on_metric = f"On validation.{note}"
        yield LineChart("curves-metric", comparison.metric, note_on_metric, series=metrics)
    losses = {name: history.loss for name, history in shown.items() if len(history.loss[0]) > 1}
    if losses:
        note_on_loss = f"Mean over the steps between two points.{note}"
        yield LineChart("curves-loss", "Training loss", note_on_loss, series=losses)


def _iter_histories(comparison: Comparison) -> Iterator[tuple[str, History]]:
    most_jobs = max((len(row.result.jobs) for row in comparison.rows), default=0)
    for index, row in product(range(most_jobs), comparison.rows):
        if index >= len(row.result.jobs):
            continue
        job = row.result.jobs[index]
        seed = job.settings.get("seed", "")
        name = f"{row.name} s{seed}" if len(row.result.jobs) > 1 else row.name
        try:
            yield name, read_history(RunFolder(job.folder))
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            # Damaged, which bertft verify reports. The comparison does not need the curves.
            continue
