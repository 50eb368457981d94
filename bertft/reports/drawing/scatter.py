"""Named points over powers of ten, with the line that joins the front.

A name stands next to its point, at the first place around it where it covers neither another point
nor another name. x = 0 has a place of its own at the left.
"""

from __future__ import annotations

import math
from itertools import product
from typing import TYPE_CHECKING, Any

from bertft.formats.figures import format_compact, format_number
from bertft.reports.drawing.theme import INKS, SIZES, axes, figure
from bertft.runs.exhibits import ScatterPlot, clip_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_scatter"]

_POINT_LABEL_LENGTH = 40  # characters of a name
_POINT_BOX_SIZE = 12.0  # of the square that a point takes, in pixels


def draw_scatter(scatter: ScatterPlot) -> Figure:
    """Front points in the accent; vertical bars show the spread."""
    from matplotlib.ticker import MaxNLocator, NullLocator

    fig = figure(8.4, 4.2)
    plot = axes(fig)
    plot.grid(axis="x", color=INKS["rule"], linewidth=0.8)
    front = set(scatter.pareto_front)
    plot.plot(
        [scatter.x[n] for n in scatter.pareto_front], [scatter.y[n] for n in scatter.pareto_front],
        color=INKS["accent"], linewidth=1.5, linestyle=(0, (4, 3)), zorder=2,
    )  # fmt: skip
    plot.errorbar(
        scatter.x, scatter.y, yerr=scatter.uncertainty, fmt="none", ecolor=INKS["muted"],
        elinewidth=1.2, zorder=3,
    )  # fmt: skip
    inks = [INKS["accent" if n in front else "second"] for n in range(len(scatter.x))]
    plot.scatter(scatter.x, scatter.y, s=36, c=inks, linewidths=0, zorder=4)
    ticks = _set_scale(plot, scatter)
    plot.margins(y=0.14)
    plot.xaxis.set_ticks(ticks, [format_compact(each) for each in ticks])
    plot.xaxis.set_minor_locator(NullLocator())
    plot.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    plot.yaxis.set_major_formatter(lambda value, _: format_number(round(value, 10)))
    for name, axis in ((scatter.x_title, plot.xaxis), (scatter.y_title, plot.yaxis)):
        axis.set_label_text(name, color=INKS["muted"], fontsize=SIZES["small"])
    _label_points(fig, plot, scatter)
    return fig


def _set_scale(plot: Any, scatter: ScatterPlot) -> list[int]:
    """The scale of x, and its ticks."""
    positive = [each for each in scatter.x if each > 0] or [1]
    low = math.floor(math.log10(min(positive)))
    high = max(low + 1, math.ceil(math.log10(max(positive))))
    powers = [10**power for power in range(low, high + 1)]
    if min(scatter.x) > 0:
        plot.set_xscale("log")
        plot.set_xlim(0.8 * powers[0], 1.25 * powers[-1])
        return powers
    plot.set_xscale("symlog", linthresh=powers[0], linscale=0.5)  # linear from 0 to the first power
    plot.set_xlim(-0.25 * powers[0], 1.25 * powers[-1])
    return [0, *powers]


def _label_points(fig: Figure, plot: Any, scatter: ScatterPlot) -> None:
    from matplotlib.transforms import Bbox

    fig.draw_without_rendering()  # sets the size of the axes, from which pixels follow
    pixels = plot.transData.transform(list(zip(scatter.x, scatter.y, strict=True)))
    occupied = [Bbox.from_bounds(x - _POINT_BOX_SIZE / 2, y - _POINT_BOX_SIZE / 2, _POINT_BOX_SIZE, _POINT_BOX_SIZE) for x, y in pixels]
    inside = plot.get_window_extent()
    for number in sorted(range(len(pixels)), key=lambda each: -pixels[each][1]):
        label = plot.annotate(
            clip_text(scatter.names[number], _POINT_LABEL_LENGTH), (scatter.x[number], scatter.y[number]),
            xytext=(0, 0), textcoords="offset points", va="center", zorder=5,
            fontsize=SIZES["small"], color=INKS["ink"],
        )  # fmt: skip
        label.set_in_layout(False)
        for up, side in product((0, 11, -11, 22, -22, 33, -33), ("left", "right")):
            label.set_horizontalalignment(side)
            label.set_position((7 if side == "left" else -7, up))
            box = label.get_window_extent()
            fits = inside.x0 <= box.x0 and box.x1 <= inside.x1
            if fits and not any(box.overlaps(each) for each in occupied):
                break
        occupied.append(box)
