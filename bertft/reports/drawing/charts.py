"""Curves and points as figures.

Curves carry their name at their end instead of a legend; the first is drawn in the accent, the
others in grey. The best step is a ring on the first curve with its value beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bertft.formats.figures import compact, measure, rate, score
from bertft.reports.drawing.theme import INKS, PAPER, SIZES, axes, figure
from bertft.runs.exhibits import Lines, Points

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_lines", "draw_points"]

_STYLES: tuple[Any, ...] = ("solid", (0, (4, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))


def draw_lines(lines: Lines) -> Figure:
    """The series over steps, drawn from the last to the first, which lies above them."""
    made = figure(4.45, 2.5)
    plot = axes(made)
    ends = []
    for place, (name, (steps, values)) in reversed(list(enumerate(lines.series.items()))):
        ink = INKS["accent"] if place == 0 else INKS["second"]
        style = _STYLES[max(0, place - 1) % len(_STYLES)] if place else "solid"
        alone = int(np.isfinite(values).sum()) == 1
        plot.plot(
            steps, values, color=ink, linestyle=style, linewidth=2.0 if place == 0 else 1.5,
            drawstyle="steps-post" if lines.stairs else "default", solid_capstyle="round",
            solid_joinstyle="round", marker="o" if alone else None, markersize=5,
            zorder=3 - place / 99,
        )  # fmt: skip
        finite = [(s, v) for s, v in zip(steps, values, strict=True) if math.isfinite(v)]
        if finite:
            ends.append((finite[-1][1], name, place))
    _name_ends(plot, ends if len(lines.series) > 1 else [])
    if lines.mark is not None:
        _mark(plot, lines)
    plot.set_xlabel("step", color=INKS["muted"], fontsize=SIZES["small"], loc="right")
    # A curve of many magnitudes would be a flat line at the bottom.
    plot.margins(x=0.02, y=0.12)
    plot.xaxis.set_major_locator(_whole(5))
    plot.yaxis.set_major_locator(_nice(5))
    plot.xaxis.set_major_formatter(lambda value, _: compact(value))
    plot.yaxis.set_major_formatter(lambda value, _: _short(value, plot.get_ylim()))
    return made


def draw_points(points: Points) -> Figure:
    """Square, with the diagonal on which both agree."""
    made = figure(3.8, 3.6)
    plot = axes(made)
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
    plot.xaxis.set_major_locator(_nice(5))
    plot.yaxis.set_major_locator(_nice(5))
    for name, axis in ((points.x_title, plot.xaxis), (points.y_title, plot.yaxis)):
        axis.set_label_text(name, color=INKS["muted"], fontsize=SIZES["small"])
        axis.set_major_formatter(lambda value, _: measure(round(value, 10)))
    return made


def _name_ends(plot: Any, ends: Sequence[tuple[float, str, int]]) -> None:
    """Names at the right end of the curves, moved apart where they would overlap."""
    low, high = plot.get_ylim()
    gap = 0.1 * (high - low)
    at = -math.inf
    for value, name, place in sorted(ends):
        at = max(value, at + gap)
        plot.annotate(
            name, (1.0, at), xycoords=("axes fraction", "data"), xytext=(6, 0),
            textcoords="offset points", va="center", fontsize=SIZES["small"],
            color=INKS["accent"] if place == 0 else INKS["muted"], annotation_clip=False,
        )  # fmt: skip


def _mark(plot: Any, lines: Lines) -> None:
    steps, values = next(iter(lines.series.values()))
    found = [(s, v) for s, v in zip(steps, values, strict=True) if s == lines.mark]
    if not found or not math.isfinite(found[-1][1]):
        return
    step, value = found[-1]
    plot.plot(
        [step], [value], marker="o", markersize=7, color=PAPER, zorder=5,
        markeredgecolor=INKS["accent"], markeredgewidth=2,
    )  # fmt: skip
    if len(lines.series) > 1:  # it would stand on another curve
        return
    late = step > (min(steps) + max(steps)) / 2
    plot.annotate(
        score(value), (step, value), xytext=(-8 if late else 8, 7), textcoords="offset points",
        ha="right" if late else "left", fontsize=SIZES["text"], color=INKS["ink"], weight="bold",
    )  # fmt: skip


def _whole(ticks: int) -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(ticks, integer=True, steps=[1, 2, 5, 10])


def _nice(ticks: int) -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(ticks, steps=[1, 2, 2.5, 5, 10])


def _short(value: float, limits: tuple[float, float]) -> str:
    """A tick: rates with exponent, counts with units, the rest with as few digits as it needs."""
    greatest = max(map(abs, limits))
    if value == 0:
        return "0"
    if greatest < 0.01:
        return rate(value)
    return compact(value) if greatest >= 1000 else f"{round(value, 10):.4g}"
