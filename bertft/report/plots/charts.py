"""Curves and points as figures.

Curves carry their name at their end instead of a legend; the first is drawn in the accent, the
others in grey. The best step is a ring on the first curve with its value beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from bertft.report.plots.theme import INKS, PAPER, SIZES, axes, figure
from bertft.tasks.report_items import AgreementPlot, LineChart, ScatterPlot, clip_text
from bertft.utils.numbers import format_compact, format_number, format_rate, format_score

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "draw_lines",
    "draw_points",
    "draw_scatter",
]


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
        [scatter.x[n] for n in scatter.pareto_front],
        [scatter.y[n] for n in scatter.pareto_front],
        color=INKS["accent"],
        linewidth=1.5,
        linestyle=(0, (4, 3)),
        zorder=2,
    )
    plot.errorbar(
        scatter.x,
        scatter.y,
        yerr=scatter.uncertainty,
        fmt="none",
        ecolor=INKS["muted"],
        elinewidth=1.2,
        zorder=3,
    )
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
    occupied = [
        Bbox.from_bounds(
            x - _POINT_BOX_SIZE / 2, y - _POINT_BOX_SIZE / 2, _POINT_BOX_SIZE, _POINT_BOX_SIZE
        )
        for x, y in pixels
    ]
    inside = plot.get_window_extent()
    for number in sorted(range(len(pixels)), key=lambda each: -pixels[each][1]):
        label = plot.annotate(
            clip_text(scatter.names[number], _POINT_LABEL_LENGTH),
            (scatter.x[number], scatter.y[number]),
            xytext=(0, 0),
            textcoords="offset points",
            va="center",
            zorder=5,
            fontsize=SIZES["small"],
            color=INKS["ink"],
        )
        label.set_in_layout(False)
        for up, side in product((0, 11, -11, 22, -22, 33, -33), ("left", "right")):
            label.set_horizontalalignment(side)
            label.set_position((7 if side == "left" else -7, up))
            box = label.get_window_extent()
            fits = inside.x0 <= box.x0 and box.x1 <= inside.x1
            if fits and not any(box.overlaps(each) for each in occupied):
                break
        occupied.append(box)


_STYLES: tuple[Any, ...] = ("solid", (0, (4, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))


def draw_lines(lines: LineChart) -> Figure:
    """The series over steps, drawn from the last to the first, which lies above them."""
    fig = figure(4.45, 2.5)
    plot = axes(fig)
    ends = []
    for index, (name, (steps, values)) in reversed(list(enumerate(lines.series.items()))):
        ink = INKS["accent"] if index == 0 else INKS["second"]
        style = _STYLES[max(0, index - 1) % len(_STYLES)] if index else "solid"
        is_single_point = int(np.isfinite(values).sum()) == 1
        plot.plot(
            steps,
            values,
            color=ink,
            linestyle=style,
            linewidth=2.0 if index == 0 else 1.5,
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
        _mark_best(plot, lines)
    plot.set_xlabel("step", color=INKS["muted"], fontsize=SIZES["small"], loc="right")
    # A curve of many magnitudes would be a flat line at the bottom.
    plot.margins(x=0.02, y=0.12)
    plot.xaxis.set_major_locator(_integer_ticks(5))
    plot.yaxis.set_major_locator(_round_ticks(5))
    plot.xaxis.set_major_formatter(lambda value, _: format_compact(value))
    plot.yaxis.set_major_formatter(lambda value, _: _format_tick(value, plot.get_ylim()))
    return fig


def draw_points(points: AgreementPlot) -> Figure:
    """Square, with the diagonal on which both agree."""
    fig = figure(3.8, 3.6)
    plot = axes(fig)
    plot.plot(
        points.x,
        points.y,
        linestyle="none",
        marker="o",
        markersize=4.5,
        color=INKS["accent"],
        alpha=max(0.15, min(0.7, 60 / max(1, len(points.x)) ** 0.7)),
        markeredgewidth=0,
    )
    both = np.concatenate([points.x, points.y])
    both = both[np.isfinite(both)]
    low, high = (float(both.min()), float(both.max())) if len(both) else (0.0, 1.0)
    room = 0.05 * (high - low) or 1.0
    span = (low - room, high + room)
    plot.plot(span, span, color=INKS["second"], linewidth=1, linestyle=_STYLES[1], zorder=1)
    plot.set_xlim(span)
    plot.set_ylim(span)
    plot.set_aspect("equal")
    plot.xaxis.set_major_locator(_round_ticks(5))
    plot.yaxis.set_major_locator(_round_ticks(5))
    for name, axis in ((points.x_title, plot.xaxis), (points.y_title, plot.yaxis)):
        axis.set_label_text(name, color=INKS["muted"], fontsize=SIZES["small"])
        axis.set_major_formatter(lambda value, _: format_number(round(value, 10)))
    return fig


def _label_curve_ends(plot: Any, ends: Sequence[tuple[float, str, int]]) -> None:
    """Names at the right end of the curves, moved apart where they would overlap."""
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
            fontsize=SIZES["small"],
            color=INKS["accent"] if index == 0 else INKS["muted"],
            annotation_clip=False,
        )


def _mark_best(plot: Any, lines: LineChart) -> None:
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
        color=PAPER,
        zorder=5,
        markeredgecolor=INKS["accent"],
        markeredgewidth=2,
    )
    if len(lines.series) > 1:  # it would stand on another curve
        return
    is_right_half = step > (min(steps) + max(steps)) / 2
    plot.annotate(
        format_score(value),
        (step, value),
        xytext=(-8 if is_right_half else 8, 7),
        textcoords="offset points",
        ha="right" if is_right_half else "left",
        fontsize=SIZES["text"],
        color=INKS["ink"],
        weight="bold",
    )


def _integer_ticks(ticks: int) -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(ticks, integer=True, steps=[1, 2, 5, 10])


def _round_ticks(ticks: int) -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(ticks, steps=[1, 2, 2.5, 5, 10])


def _format_tick(value: float, limits: tuple[float, float]) -> str:
    """A tick: rates with exponent, counts with units, the rest with as few digits as it needs."""
    greatest = max(map(abs, limits))
    if value == 0:
        return "0"
    if greatest < 0.01:
        return format_rate(value)
    return format_compact(value) if greatest >= 1000 else f"{round(value, 10):.4g}"
