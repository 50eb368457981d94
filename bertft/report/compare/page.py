"""A comparison as one HTML page in the style of a run's report."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import datetime

import bertft
from bertft.errors import BertftError
from bertft.report.compare.changed_rows import changed_row_tables
from bertft.report.compare.comparison import ComparedRow, Comparison
from bertft.report.compare.curves import learning_curves
from bertft.report.compare.module_values import module_heat_maps
from bertft.report.compare.table import comparison_notes, differing_settings_table, results_table
from bertft.report.page.render import FailedItem, Picture, RenderedItem, render_page
from bertft.report.plots.draw import draw_item
from bertft.report.result_rows import format_mean
from bertft.tasks.report_items import HeatMap, LineChart, ScatterPlot, TableItem
from bertft.utils.messages import format_list

__all__ = ["pareto_front", "render_comparison"]

# Settings that determine the number of parameters of a method.
_SIZE_SETTINGS = (
    "method.rank",
    "method.initial_rank",
    "method.prefix.length",
    "method.base.last_k",
)


def render_comparison(comparison: Comparison) -> str:
    """The content of the file that ``bertft compare out=`` writes."""
    row_count, run_count = len(comparison.rows), sum(row.result.runs for row in comparison.rows)
    settings_head, settings_rows = differing_settings_table(comparison)
    return render_page(
        "compare.html.j2",
        metric=comparison.metric,
        extent=(
            f"{run_count} runs in {row_count} {'row' if row_count == 1 else 'rows'},"
            f" version {bertft.__version__}"
        ),
        date=f"{datetime.now():%d %B %Y, %H:%M}",
        leaders=_leaders(comparison) or ["No run has validation metrics"],
        runs=results_table(comparison),
        notes=comparison_notes(comparison),
        pictures=[_render_plot(plot) for plot in _trade_off_plots(comparison)],
        curves=[_render_plot(chart) for chart in learning_curves(comparison)],
        modules=[_render_plot(grid) for grid in module_heat_maps(comparison)],
        changes=_changed_rows(comparison),
        settings={"head": settings_head, "rows": settings_rows},
        folders=_folders_table(comparison),
    )


def pareto_front(sizes: Sequence[int], values: Sequence[float], lower: bool) -> list[int]:
    """Indices of the points that no other point dominates, by ascending size.

    A point is dominated by one that is at most as large, at least as good, and better in one of the
    two. ``lower``: lower values are better.
    """
    sign = 1 if lower else -1
    best, front = math.inf, list[int]()
    for index in sorted(range(len(sizes)), key=lambda i: (sizes[i], sign * values[i])):
        is_equal = front and (sizes[index], values[index]) == (sizes[front[-1]], values[front[-1]])
        if sign * values[index] < best or is_equal:
            best = sign * values[index]
            front.append(index)
    return front


def _leaders(comparison: Comparison) -> list[str]:
    """One sentence per set of validation rows: the best row, and those that tie with it."""
    leaders = []
    for best in comparison.rows:
        if not best.result.best:
            continue
        ties = [row for row in comparison.rows if row.is_tie and row.baseline == best.name]
        text = f"{best.name} is the best: {comparison.metric} {format_mean(best.result)}"
        if ties:
            names = format_list([row.name for row in ties], 4)
            text = (
                f"{best.name} and {names} tie: {comparison.metric} {format_mean(best.result)} and"
                f" {', '.join(format_mean(row.result) for row in ties[:4])}"
            )
        smaller = [row.name for row in ties if row.kept_parameters < best.kept_parameters]
        if smaller:
            text += f"; {smaller[0]} has fewer parameters"
        leaders.append(f"{text}.")
    return leaders


def _changed_rows(comparison: Comparison) -> list[RenderedItem]:
    try:
        return [*changed_row_tables(comparison)]
    except BertftError as error:  # the rows have changed or cannot be read
        return [FailedItem("Rows with a different prediction", str(error))]


def _folders_table(comparison: Comparison) -> TableItem:
    rows = []
    for row in comparison.rows:
        for job in row.result.jobs:
            assert job.metrics is not None
            best, seed = job.metrics["best"], job.settings.get("seed", "")
            rows.append(
                [row.name, seed, f"{best['value']:.4f}", f"{best['step']:,}", str(job.folder)]
            )
    head = ["name", "seed", comparison.metric, "step", "folder"]
    kinds = ["word", "number", "number", "number", "text"]
    return TableItem("folders", "Run folders", head=head, rows=rows, kinds=kinds)


def _trade_off_plots(comparison: Comparison) -> Iterator[ScatterPlot]:
    """One plot per set of validation rows: values on different rows are not comparable."""
    fingerprints = list(dict.fromkeys(row.validation_fingerprint for row in comparison.rows))
    better = "lower" if comparison.lower_is_better else "higher"
    for number, fingerprint in enumerate(fingerprints, start=1):
        rows = [
            row
            for row in comparison.rows
            if row.validation_fingerprint == fingerprint and row.result.mean is not None
        ]
        if not rows:
            continue
        sizes = [row.kept_parameters for row in rows]
        values = [row.result.mean or 0.0 for row in rows]
        groups = _groups_by_size(rows)
        note = f"Dashed: the Pareto front ({better} is better). Bars: std over the seeds."
        if groups:
            note += " Solid: runs that differ only in a setting of their size, such as method.rank."
        if len(fingerprints) > 1:
            note += f" Runs on validation set {number} of {len(fingerprints)}."
        yield ScatterPlot(
            f"trade-off-{number}",
            f"{comparison.metric} against method parameters",
            note,
            names=[row.name for row in rows],
            x=sizes,
            y=values,
            uncertainty=[row.result.std or 0.0 for row in rows],
            pareto_front=pareto_front(sizes, values, comparison.lower_is_better),
            lines=groups,
            x_title="method parameters after pruning",
            y_title=comparison.metric,
        )


def _groups_by_size(rows: Sequence[ComparedRow]) -> list[list[int]]:
    """Indices of rows that differ in the settings of their size alone, by ascending size."""
    groups: dict[tuple[tuple[str, str], ...], list[int]] = {}
    for index in sorted(range(len(rows)), key=lambda index: rows[index].kept_parameters):
        settings = rows[index].result.jobs[0].settings
        others = {k: v for k, v in settings.items() if k != "seed" and k not in _SIZE_SETTINGS}
        groups.setdefault(tuple(sorted(others.items())), []).append(index)
    return [group for group in groups.values() if len(group) > 1]


def _render_plot(plot: ScatterPlot | LineChart | HeatMap) -> RenderedItem:
    try:
        return Picture(plot, draw_item(plot).svg)
    except Exception as error:  # the page is useful without the plot
        return FailedItem(plot.title, f"{type(error).__name__}: {error}")
