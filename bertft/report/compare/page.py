"""A comparison as one HTML page in the style of a run's report."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import datetime

import bertft
from bertft.report.compare.comparison import ComparedRow, Comparison
from bertft.report.compare.table import comparison_cells, comparison_notes, differing_settings_table
from bertft.report.page.render import FailedItem, Picture, RenderedItem, render_page
from bertft.report.plots.draw import draw_item
from bertft.tasks.report_items import ScatterPlot, TableItem

__all__ = ["pareto_front", "render_comparison"]


def render_comparison(comparison: Comparison) -> str:
    """The whole document."""
    compared_rows = comparison.rows
    return render_page(
        "compare.html.j2",
        metric=comparison.metric,
        extent=(
            f"{len(compared_rows)} {'line' if len(compared_rows) == 1 else 'lines'} of"
            f" {sum(each.result.runs for each in compared_rows)} runs, version {bertft.__version__}"
        ),
        date=f"{datetime.now():%d %B %Y, %H:%M}",
        leaders=_leaders(comparison) or ["No run was validated"],
        runs=_runs_table(comparison),
        notes=comparison_notes(comparison),
        pictures=[_draw_or_failure(each) for each in _trade_off_plots(comparison)],
        settings=dict(zip(("head", "rows"), differing_settings_table(comparison), strict=True)),
        folders=_folders_table(comparison),
    )


def pareto_front(sizes: Sequence[int], values: Sequence[float], lower: bool) -> list[int]:
    """Numbers of the points that no other one beats, by ascending size.

    A point is beaten by one that is no larger and no worse, and better in one of the two.
    ``lower``: a smaller value is better.
    """
    sign = 1 if lower else -1
    best, front = math.inf, list[int]()
    for number in sorted(range(len(sizes)), key=lambda n: (sizes[n], sign * values[n])):
        point = (sizes[number], values[number])
        if sign * values[number] < best:
            best = sign * values[number]
            front.append(number)
        elif front and point == (sizes[front[-1]], values[front[-1]]):
            front.append(number)
    return front


def _leaders(comparison: Comparison) -> list[str]:
    """The best line on each set of rows, and a smaller one that is not measurably worse."""
    leaders = []
    for best in (each for each in comparison.rows if each.result.best):
        text = f"{best.name} is the best: {comparison.metric} {best.result.mean:.4f}"
        if best.result.std is not None:
            text += f" ± {best.result.std:.4f}"
        comparable = [
            each.name for each in comparison.rows if _is_smaller_and_comparable(each, best)
        ]
        if comparable:
            text += f"; {comparable[0]} has fewer parameters and does not differ significantly"
        leaders.append(f"{text}.")
    return leaders


def _is_smaller_and_comparable(row: ComparedRow, best: ComparedRow) -> bool:
    gap = row.difference
    if gap is None or row.baseline != best.name:
        return False
    return row.kept_parameters < best.kept_parameters and gap.low <= 0 <= gap.high


def _runs_table(comparison: Comparison) -> TableItem:
    head, rows = comparison_cells(comparison)
    strong = [number for number, each in enumerate(comparison.rows) if each.result.best]
    return TableItem("runs", "Runs", head=head, rows=rows, strong=strong, kinds=_kinds(head))


def _folders_table(comparison: Comparison) -> TableItem:
    rows = []
    for row in comparison.rows:
        for job in row.result.jobs:
            assert job.metrics is not None
            best, seed = job.metrics["best"], job.settings.get("seed", "")
            rows.append(
                [row.name, seed, f"{best['value']:.4f}", f"{best['step']:,}", str(job.folder)]
            )
    head = ["", "seed", comparison.metric, "step", "folder"]
    return TableItem("folders", "Each run", head=head, rows=rows, kinds=_kinds(head))


def _kinds(head: Sequence[str]) -> list[str]:
    return ["word", *["number"] * (len(head) - 1)]


def _trade_off_plots(comparison: Comparison) -> Iterator[ScatterPlot]:
    """One per set of validation rows: values on different rows cannot be compared."""
    fingerprints = list(dict.fromkeys(each.validation_fingerprint for each in comparison.rows))
    better = "lower" if comparison.lower_is_better else "higher"
    for number, rows in enumerate(fingerprints, start=1):
        compared_rows = [
            each
            for each in comparison.rows
            if each.validation_fingerprint == rows and each.result.mean is not None
        ]
        if not compared_rows:
            continue
        sizes, values = (
            [each.kept_parameters for each in compared_rows],
            [each.result.mean or 0.0 for each in compared_rows],
        )
        caption = (
            f" Validation rows {number} of {len(fingerprints)}." if len(fingerprints) > 1 else ""
        )
        yield ScatterPlot(
            f"trade-off-{number}",
            f"{comparison.metric} against parameters",
            f"Dashed: the Pareto front, {better} is better. Bars: the std over the seeds.{caption}",
            names=[each.name for each in compared_rows],
            x=sizes,
            y=values,
            uncertainty=[each.result.std or 0.0 for each in compared_rows],
            pareto_front=pareto_front(sizes, values, comparison.lower_is_better),
            x_title="parameters that the method keeps",
            y_title=comparison.metric,
        )


def _draw_or_failure(picture: ScatterPlot) -> RenderedItem:
    try:
        return Picture(picture, draw_item(picture).svg)
    except Exception as error:  # the tables are worth showing without it
        return FailedItem(picture.title, f"{type(error).__name__}: {error}")
