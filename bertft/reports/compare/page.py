"""A comparison as one HTML page in the style of a run's report."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import datetime

import bertft
from bertft.reports.compare.comparison import Compared, Comparison
from bertft.reports.compare.table import cells, sentences, settings
from bertft.reports.drawing.draw import draw
from bertft.reports.page.render import Failed, Picture, Shown, render_page
from bertft.runs.exhibits import Scatter, Table

__all__ = ["page", "pareto_front"]


def page(comparison: Comparison) -> str:
    """The whole document."""
    lines = comparison.lines
    return render_page(
        "compare.html.j2",
        metric=comparison.metric,
        extent=(
            f"{len(lines)} {'line' if len(lines) == 1 else 'lines'} of"
            f" {sum(each.line.runs for each in lines)} runs, version {bertft.__version__}"
        ),
        date=f"{datetime.now():%d %B %Y, %H:%M}",
        leaders=_leaders(comparison) or ["No run was validated"],
        runs=_runs(comparison),
        notes=sentences(comparison),
        pictures=[_drawn(each) for each in _trade_offs(comparison)],
        settings=dict(zip(("head", "rows"), settings(comparison), strict=True)),
        folders=_folders(comparison),
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
    for best in (each for each in comparison.lines if each.line.best):
        text = f"{best.name} is the best: {comparison.metric} {best.line.mean:.4f}"
        if best.line.std is not None:
            text += f" ± {best.line.std:.4f}"
        alike = [each.name for each in comparison.lines if _smaller_and_alike(each, best)]
        if alike:
            text += f"; {alike[0]} has fewer parameters and does not differ significantly"
        leaders.append(f"{text}.")
    return leaders


def _smaller_and_alike(each: Compared, best: Compared) -> bool:
    gap = each.difference
    if gap is None or each.against != best.name:
        return False
    return each.kept < best.kept and gap.low <= 0 <= gap.high


def _runs(comparison: Comparison) -> Table:
    head, rows = cells(comparison)
    strong = [number for number, each in enumerate(comparison.lines) if each.line.best]
    return Table("runs", "Runs", head=head, rows=rows, strong=strong, kinds=_kinds(head))


def _folders(comparison: Comparison) -> Table:
    rows = []
    for each in comparison.lines:
        for job in each.line.jobs:
            assert job.metrics is not None
            best, seed = job.metrics["best"], job.settings.get("seed", "")
            rows.append(
                [each.name, seed, f"{best['value']:.4f}", f"{best['step']:,}", str(job.folder)]
            )
    head = ["", "seed", comparison.metric, "step", "folder"]
    return Table("folders", "Each run", head=head, rows=rows, kinds=_kinds(head))


def _kinds(head: Sequence[str]) -> list[str]:
    return ["word", *["number"] * (len(head) - 1)]


def _trade_offs(comparison: Comparison) -> Iterator[Scatter]:
    """One per set of validation rows: values on different rows cannot be compared."""
    sets = list(dict.fromkeys(each.rows for each in comparison.lines))
    better = "lower" if comparison.lower else "higher"
    for number, rows in enumerate(sets, start=1):
        lines = [
            each for each in comparison.lines if each.rows == rows and each.line.mean is not None
        ]
        if not lines:
            continue
        sizes, values = [each.kept for each in lines], [each.line.mean or 0.0 for each in lines]
        which = f" Validation rows {number} of {len(sets)}." if len(sets) > 1 else ""
        yield Scatter(
            f"trade-off-{number}",
            f"{comparison.metric} against parameters",
            f"Dashed: the Pareto front, {better} is better. Bars: the std over the seeds.{which}",
            names=[each.name for each in lines],
            x=sizes,
            y=values,
            spread=[each.line.std or 0.0 for each in lines],
            front=pareto_front(sizes, values, comparison.lower),
            x_title="parameters that the method keeps",
            y_title=comparison.metric,
        )


def _drawn(picture: Scatter) -> Shown:
    try:
        return Picture(picture, draw(picture).svg)
    except Exception as error:  # the tables are worth showing without it
        return Failed(picture.title, f"{type(error).__name__}: {error}")
