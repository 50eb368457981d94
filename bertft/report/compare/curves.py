"""The learning curves of the compared runs, all in one plot."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from bertft.report.compare.comparison import Comparison
from bertft.report.context import History, Series, read_history
from bertft.runs.run_folder import RunFolder
from bertft.tasks.report_items import LineChart

__all__ = ["learning_curves"]

_MAX_CURVES = 8  # more cannot be told apart


def learning_curves(comparison: Comparison) -> Iterator[LineChart]:
    """The selection metric on validation (two evaluations or more), and the training loss.

    The best row comes first, and the first seed of every row before the other seeds.
    """
    histories = dict(_iter_histories(comparison))
    shown = dict(list(histories.items())[:_MAX_CURVES])
    note = "" if len(shown) == len(histories) else f" The best {len(shown)} of {len(histories)}."
    metrics = {
        name: history.evaluations[comparison.metric]
        for name, history in shown.items()
        if comparison.metric in history.evaluations
    }
    if any(len(steps) > 1 for steps, _ in metrics.values()):
        yield _chart("curves-metric", comparison.metric, f"On validation.{note}", metrics)
    losses = {name: history.loss for name, history in shown.items() if len(history.loss[0]) > 1}
    if losses:
        text = f"Mean over the steps between two points.{note}"
        yield _chart("curves-loss", "Training loss", text, losses)


def _chart(name: str, title: str, note: str, series: dict[str, Series]) -> LineChart:
    return LineChart(name, title, note, series=series)


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
        except (OSError, ValueError, KeyError):  # damaged: verify reports it
            continue
