"""The result of a search as one HTML page: ``tune.html`` in the folder of the search."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from datetime import datetime

import bertft
from bertft.config.overrides import unquote_value
from bertft.report.compare.table import comparison_notes, results_table
from bertft.report.page.render import FailedItem, Picture, RenderedItem, render_page
from bertft.report.plots.draw import draw_item
from bertft.runs.run_folder import RunFolder
from bertft.search.halving import Trial, format_fraction
from bertft.search.outcome import read_evaluations
from bertft.search.proposals import ranked_trials
from bertft.search.result import (
    SearchResult,
    run_seconds,
    train_command,
    trials_table,
    verdict_lines,
)
from bertft.tasks.report_items import BarChart, CurvesPlot, ReportItem, SlicePlot
from bertft.utils.numbers import format_duration

__all__ = ["PAGE_FILE", "importance", "render_search"]

PAGE_FILE = "tune.html"
_MIN_TRIALS = 4  # with fewer, an importance would mean nothing


def render_search(result: SearchResult) -> str:
    """The content of the page."""
    headline, *lines = verdict_lines(result)
    comparison = result.verdict.comparison
    return render_page(
        "tune.html.j2",
        metric=result.journal.metric,
        extent=(
            f"{len(result.journal.trials)} trials, {format_duration(run_seconds(result))} of"
            f" training in complete runs, version {bertft.__version__}"
        ),
        date=f"{datetime.now():%d %B %Y, %H:%M}",
        headline=headline,
        lines=lines,
        command=train_command(result),
        trials=trials_table(result),
        curves=[_render(item) for item in _curves_and_importance(result)],
        slices=[_render(item) for item in _slices(result)],
        comparison=None if comparison is None else results_table(comparison),
        notes=[] if comparison is None else comparison_notes(comparison),
    )


def importance(result: SearchResult) -> dict[str, float]:
    """Setting → its part in how good a trial is at the first rung, which all trials have reached.

    PED-ANOVA of Optuna (Watanabe et al. 2023, arXiv 2304.10255): how much the distribution of the
    values of the best trials differs from that of all trials. Empty for fewer than four trials.
    """
    import optuna

    trials = [trial for trial in result.journal.trials if trial.results]
    if len(trials) < _MIN_TRIALS or len(result.plan.space) < 2:
        return {}
    with warnings.catch_warnings():  # the evaluator is experimental
        warnings.simplefilter("ignore")
        study = optuna.create_study(direction="minimize")
        lower_is_better = result.journal.lower_is_better
        study.add_trials(ranked_trials(result.plan.space, trials, lower_is_better))
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        values = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {key: float(value) for key, value in values.items() if math.isfinite(value)}


def _curves_and_importance(result: SearchResult) -> Iterator[ReportItem]:
    curves: list[tuple[list[float], list[float]]] = []
    marked = None
    for trial in result.trials:
        points = _read_curve(result, trial)
        if points is None:
            continue
        if trial.folder == result.best.folder:
            marked = len(curves)
        curves.append(points)
    if curves:
        yield CurvesPlot(
            "rungs",
            "Trials",
            "A curve ends where its trial stopped. Coloured: the best configuration.",
            curves=curves,
            marked=marked,
            x_title="step",
            y_title=result.journal.metric,
        )
    values = importance(result)
    if values:
        yield BarChart(
            "importance",
            "Importance of the settings",
            "Importance by PED-ANOVA, with a sum of 1 over the settings: how much each one decides"
            f" which trials are the best after {_first_part(result)}.",
            names=[result.names[key] for key in values],
            values=list(values.values()),
        )


def _first_part(result: SearchResult) -> str:
    """The steps of the first rung, for readers who do not know this word: ``1/8 of the steps``."""
    return f"{format_fraction(result.rungs[0])} of the steps"


def _read_curve(result: SearchResult, trial: Trial) -> tuple[list[float], list[float]] | None:
    """The steps and the metric of the evaluations of a trial; None if there are none."""
    if trial.folder is None:
        return None
    try:
        evaluations = read_evaluations(RunFolder(result.plan.folder / trial.folder))
    except (OSError, ValueError, LookupError):  # the page is useful without the curve
        return None
    if not evaluations:
        return None
    return [float(one.step) for one in evaluations], [one.value for one in evaluations]


def _slices(result: SearchResult) -> Iterator[SlicePlot]:
    """One plot per setting: its value in each trial and the metric at the first rung."""
    trials = [trial for trial in result.journal.trials if trial.results]
    folders = [trial.folder for trial in trials]
    marked = folders.index(result.best.folder) if result.best.folder in folders else None
    for key, distribution in result.plan.space.items():
        texts = [unquote_value(trial.params[key]) for trial in trials]
        names = [unquote_value(text) for text in distribution.choices]
        order = sorted(range(len(texts)), key=lambda n: names.index(texts[n])) if names else None
        positions = list(range(len(texts))) if order is None else order
        yield SlicePlot(
            f"slice-{key.replace('.', '-').replace('/', '-')}",
            result.names[key],
            "",
            x=[texts[n] for n in positions] if names else [float(text) for text in texts],
            y=[trials[n].results[0].value for n in positions],
            marked=None if marked is None else positions.index(marked),
            is_log=distribution.is_log,
            x_title=result.names[key],
            y_title=f"{result.journal.metric} after {_first_part(result)}",
        )


def _render(item: ReportItem) -> RenderedItem:
    try:
        return Picture(item, draw_item(item).svg)
    except Exception as error:  # the page is useful without the plot
        return FailedItem(item.title, f"{type(error).__name__}: {error}")
