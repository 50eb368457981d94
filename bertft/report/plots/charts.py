"""Line charts, agreement plots and scatter plots.

Curves have their names at the right end instead of a legend. The first curve has the accent colour,
the others are grey. A ring with the value marks the best step on the first curve.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bertft.report.plots.theme import COLOURS, FONT_SIZES, new_axes, new_figure
from bertft.tasks.report_items import AgreementPlot, LineChart, ScatterPlot, clip_text
from bertft.utils.numbers import format_compact, format_number, format_rate, format_score

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

__all__ = [
    "draw_agreement_plot",
    "draw_line_chart",
    "draw_scatter_plot",
]

_MAX_LABEL_LENGTH = 40  # characters of a point's name
_LABEL_POSITIONS: list[tuple[int, Literal["left", "right"]]] = [
    (up, side) for up in (0, 11, -11, 22, -22, 33, -33) for side in ("left", "right")
]
_POINT_BOX_SIZE = 12.0  # side of the square that a point occupies, in pixels
_LINE_STYLES: tuple[Any, ...] = ("solid", (0, (4, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))


def draw_scatter_plot(scatter: ScatterPlot) -> Figure:
    """Points of the Pareto front have the accent colour. Vertical bars show the uncertainty."""
    from matplotlib.ticker import MaxNLocator, NullLocator

    fig = new_figure(8.4, 4.2)
    plot = new_axes(fig)
    plot.grid(axis="x", color=COLOURS["rule"], linewidth=0.8)
    front = set(scatter.pareto_front)
    plot.plot(
        [scatter.x[n] for n in scatter.pareto_front],
        [scatter.y[n] for n in scatter.pareto_front],
        color=COLOURS["accent"],
        linewidth=1.5,
        linestyle=(0, (4, 3)),
        zorder=2,
    )
    for points in scatter.lines:
        x, y = [scatter.x[n] for n in points], [scatter.y[n] for n in points]
        plot.plot(x, y, color=COLOURS["muted"], linewidth=1.0, zorder=1)
    plot.errorbar(
        scatter.x,
        scatter.y,
        yerr=scatter.uncertainty,
        fmt="none",
        ecolor=COLOURS["muted"],
        elinewidth=1.2,
        zorder=3,
    )
    colours = [COLOURS["accent" if n in front else "second"] for n in range(len(scatter.x))]
    plot.scatter(scatter.x, scatter.y, s=36, c=colours, linewidths=0, zorder=4)
    ticks = _set_scale(plot, scatter)
    plot.margins(y=0.14)
    plot.xaxis.set_ticks(ticks, [format_compact(tick) for tick in ticks])
    plot.xaxis.set_minor_locator(NullLocator())
    plot.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    plot.yaxis.set_major_formatter(lambda value, _: format_number(round(value, 10)))
    for name, axis in ((scatter.x_title, plot.xaxis), (scatter.y_title, plot.yaxis)):
        axis.set_label_text(name, color=COLOURS["muted"], fontsize=FONT_SIZES["small"])
    _label_points(fig, plot, scatter)
    return fig


def _set_scale(plot: Axes, scatter: ScatterPlot) -> list[int]:
    """Set a logarithmic scale of x, linear near a zero; the ticks are powers of ten."""
    positive = [x for x in scatter.x if x > 0] or [1]
    low = math.floor(math.log10(min(positive)))
    high = max(low + 1, math.ceil(math.log10(max(positive))))
    powers = [10**power for power in range(low, high + 1)]
    if min(scatter.x) > 0:
        plot.set_xscale("log")
        plot.set_xlim(0.8 * powers[0], 1.25 * powers[-1])
        return powers
    plot.set_xscale("symlog", linthresh=powers[0], linscale=0.5)  # linear below the first power
    plot.set_xlim(-0.25 * powers[0], 1.25 * powers[-1])
    return [0, *powers]


def _label_points(fig: Figure, plot: Axes, scatter: ScatterPlot) -> None:
    """Write the names next to the points, where they overlap no other name or point."""
    from matplotlib.transforms import Bbox

    fig.draw_without_rendering()  # sets the size of the axes in pixels
    pixels = plot.transData.transform(list(zip(scatter.x, scatter.y, strict=True)))
    half = _POINT_BOX_SIZE / 2
    occupied = [Bbox.from_extents(x - half, y - half, x + half, y + half) for x, y in pixels]
    inside = plot.get_window_extent()
    for number in sorted(range(len(pixels)), key=lambda point: -pixels[point][1]):
        label = plot.annotate(
            clip_text(scatter.names[number], _MAX_LABEL_LENGTH),
            (scatter.x[number], scatter.y[number]),
            xytext=(0, 0),
            textcoords="offset points",
            va="center",
            zorder=5,
            fontsize=FONT_SIZES["small"],
            color=COLOURS["ink"],
        )
        label.set_in_layout(False)
        for up, side in _LABEL_POSITIONS:
            label.set_horizontalalignment(side)
            label.set_position((7 if side == "left" else -7, up))
            box = label.get_window_extent()
            fits = inside.x0 <= box.x0 and box.x1 <= inside.x1
            if fits and not any(box.overlaps(other) for other in occupied):
                break
        occupied.append(box)


def draw_line_chart(lines: LineChart) -> Figure:
    """Series over steps. The first series is drawn last, on top of the others."""
    fig = new_figure(4.45, 2.5)
    plot = new_axes(fig)
    ends = []
    for index, (name, (steps, values)) in reversed(list(enumerate(lines.series.items()))):
        style = _LINE_STYLES[max(0, index - 1) % len(_LINE_STYLES)]
        is_single_point = int(np.isfinite(values).sum()) == 1
        plot.plot(
            steps,
            values,
            color=COLOURS["second" if index else "accent"],
            linestyle=style,
            linewidth=1.5 if index else 2.0,
            drawstyle="steps-post" if lines.is_step_function else "default",
            solid_capstyle="round",
            solid_joinstyle="round",
            marker="o" if is_single_point else None,
            markersize=5,
            zorder=3 - index / 99,
        )
        finite = [(s, v) for s, v in zip(steps, values, strict=True) if math.isfinite(v)]
        if finite:
            ends.append((finite[-1][1], name, index))
    _label_curve_ends(plot, ends if len(lines.series) > 1 else [])
    if lines.marked_step is not None:
        _mark_step(plot, lines)
    plot.set_xlabel("step", color=COLOURS["muted"], fontsize=FONT_SIZES["small"], loc="right")
    plot.margins(x=0.02, y=0.12)
    if lines.bounds is not None:
        _limit_axis(plot, *lines.bounds)
    plot.xaxis.set_major_locator(_integer_ticks(5))
    plot.yaxis.set_major_locator(_round_ticks(5))
    plot.xaxis.set_major_formatter(lambda value, _: format_compact(value))
    plot.yaxis.set_major_formatter(lambda value, _: _format_tick(value, plot.get_ylim()))
    return fig


def _limit_axis(plot: Axes, smallest: float, largest: float | None) -> None:
    """Remove the parts of the vertical axis below ``smallest`` and above ``largest``."""
    low, high = plot.get_ylim()
    if low < smallest:
        plot.set_ylim(bottom=smallest)
    if largest is not None and high > largest:
        plot.set_ylim(top=largest)


def draw_agreement_plot(points: AgreementPlot) -> Figure:
    """A square plot with the diagonal of equal values."""
    fig = new_figure(3.8, 3.6)
    plot = new_axes(fig)
    plot.plot(
        points.x,
        points.y,
        linestyle="none",
        marker="o",
        markersize=4.5,
        color=COLOURS["accent"],
        alpha=max(0.15, min(0.7, 60 / max(1, len(points.x)) ** 0.7)),
        markeredgewidth=0,
    )
    both = np.concatenate([points.x, points.y])
    both = both[np.isfinite(both)]
    low, high = (float(both.min()), float(both.max())) if len(both) else (0.0, 1.0)
    margin = 0.05 * (high - low) or 1.0
    span = (low - margin, high + margin)
    plot.plot(span, span, color=COLOURS["second"], linewidth=1, linestyle=_LINE_STYLES[1], zorder=1)
    plot.set_xlim(span)
    plot.set_ylim(span)
    plot.set_aspect("equal")
    plot.xaxis.set_major_locator(_round_ticks(5))
    plot.yaxis.set_major_locator(_round_ticks(5))
    for name, axis in ((points.x_title, plot.xaxis), (points.y_title, plot.yaxis)):
        axis.set_label_text(name, color=COLOURS["muted"], fontsize=FONT_SIZES["small"])
        axis.set_major_formatter(lambda value, _: format_number(round(value, 10)))
    return fig


def _label_curve_ends(plot: Axes, ends: Sequence[tuple[float, str, int]]) -> None:
    """Names at the right end of the curves, moved apart if they would overlap."""
    low, high = plot.get_ylim()
    gap = 0.1 * (high - low)
    label_y = -math.inf
    for value, name, index in sorted(ends):
        label_y = max(value, label_y + gap)
        plot.annotate(
            name,
            (1.0, label_y),
            xycoords=("axes fraction", "data"),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=FONT_SIZES["small"],
            color=COLOURS["accent"] if index == 0 else COLOURS["muted"],
            annotation_clip=False,
        )


def _mark_step(plot: Axes, lines: LineChart) -> None:
    steps, values = next(iter(lines.series.values()))
    marked = [(s, v) for s, v in zip(steps, values, strict=True) if s == lines.marked_step]
    if not marked or not math.isfinite(marked[-1][1]):
        return
    step, value = marked[-1]
    plot.plot(
        [step],
        [value],
        marker="o",
        markersize=7,
        color=COLOURS["paper"],
        zorder=5,
        clip_on=False,  # a value at the end of the axis
        markeredgecolor=COLOURS["accent"],
        markeredgewidth=2,
    )
    if len(lines.series) > 1:  # the value could cover another curve
        return
    is_right_half = step > (min(steps) + max(steps)) / 2
    plot.annotate(
        format_score(value),
        (step, value),
        xytext=(-8 if is_right_half else 8, 7),
        textcoords="offset points",
        ha="right" if is_right_half else "left",
        fontsize=FONT_SIZES["text"],
        color=COLOURS["ink"],
        weight="bold",
    )


def _integer_ticks(ticks: int) -> MaxNLocator:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(ticks, integer=True, steps=[1, 2, 5, 10])


def _round_ticks(ticks: int) -> MaxNLocator:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(ticks, steps=[1, 2, 2.5, 5, 10])


def _format_tick(value: float, limits: tuple[float, float]) -> str:
    """Small values with an exponent, large ones with a unit, others with up to four digits."""
    greatest = max(map(abs, limits))
    if value == 0:
        return "0"
    if greatest < 0.01:
        return format_rate(value)
    return format_compact(value) if greatest >= 1000 else f"{round(value, 10):.4g}"
