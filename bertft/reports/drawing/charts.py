"""Curves and points as figures.

Curves carry their name at their end instead of a legend; the first is drawn in the accent, the
others in grey. The best step is a ring on the first curve with its value beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bertft.formats.figures import format_compact, format_number, format_rate, format_score
from bertft.reports.drawing.theme import INKS, PAPER, SIZES, axes, figure
from bertft.runs.exhibits import LineChart, AgreementPlot

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_lines", "draw_points"]

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
            steps, values, color=ink, linestyle=style, linewidth=2.0 if index == 0 else 1.5,
            drawstyle="steps-post" if lines.is_step_function else "default", solid_capstyle="round",
            solid_joinstyle="round", marker="o" if is_single_point else None, markersize=5,
            zorder=3 - index / 99,
        )  # fmt: skip
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
        points.x, points.y, linestyle="none", marker="o", markersize=4.5, color=INKS["accent"],
        alpha=max(0.15, min(0.7, 60 / max(1, len(points.x)) ** 0.7)), markeredgewidth=0,
    )  # fmt: skip
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
            name, (1.0, label_y), xycoords=("axes fraction", "data"), xytext=(6, 0),
            textcoords="offset points", va="center", fontsize=SIZES["small"],
            color=INKS["accent"] if index == 0 else INKS["muted"], annotation_clip=False,
        )  # fmt: skip


def _mark_best(plot: Any, lines: LineChart) -> None:
    steps, values = next(iter(lines.series.values()))
    marked = [(s, v) for s, v in zip(steps, values, strict=True) if s == lines.marked_step]
    if not marked or not math.isfinite(marked[-1][1]):
        return
    step, value = marked[-1]
    plot.plot(
        [step], [value], marker="o", markersize=7, color=PAPER, zorder=5,
        markeredgecolor=INKS["accent"], markeredgewidth=2,
    )  # fmt: skip
    if len(lines.series) > 1:  # it would stand on another curve
        return
    is_right_half = step > (min(steps) + max(steps)) / 2
    plot.annotate(
        format_score(value), (step, value), xytext=(-8 if is_right_half else 8, 7), textcoords="offset points",
        ha="right" if is_right_half else "left", fontsize=SIZES["text"], color=INKS["ink"], weight="bold",
    )  # fmt: skip


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
