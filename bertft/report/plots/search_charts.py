"""Charts of a search: the curves of its trials, slices through its space, importance of settings.

The best trial has the accent colour, the others are grey.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bertft.report.plots.theme import COLOURS, FONT_SIZES, new_axes, new_figure
from bertft.tasks.report_items import BarChart, CurvesPlot, SlicePlot, clip_text
from bertft.utils.numbers import format_number, format_rate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_bar_chart", "draw_curves", "draw_slice_plot"]

_MAX_NAME_LENGTH = 32  # characters
_BAR_HEIGHT = 0.34  # inches


def draw_curves(item: CurvesPlot) -> Figure:
    """All curves; the marked one is drawn last and thicker, and the ends of curves are points."""
    fig = new_figure(4.45, 2.9)
    plot = new_axes(fig)
    for index, (x, y) in enumerate(item.curves):
        is_marked = index == item.marked
        plot.plot(
            x,
            y,
            color=COLOURS["accent" if is_marked else "second"],
            linewidth=2.0 if is_marked else 1.2,
            marker="o",
            markersize=4,
            markevery=[len(x) - 1],
            zorder=4 if is_marked else 3,
        )
    plot.margins(x=0.03, y=0.12)
    _set_titles(plot, item.x_title, item.y_title)
    _set_y_ticks(plot)
    return fig


def draw_slice_plot(item: SlicePlot) -> Figure:
    """The points; names are placed at equal distances, in their order."""
    fig = new_figure(3.4, 2.6)
    plot = new_axes(fig)
    names = list(dict.fromkeys(x for x in item.x if isinstance(x, str)))
    positions = [float(names.index(x)) if isinstance(x, str) else float(x) for x in item.x]
    order = [n for n in range(len(positions)) if n != item.marked]
    order += [] if item.marked is None else [item.marked]
    plot.scatter(
        [positions[n] for n in order],
        [item.y[n] for n in order],
        s=30,
        c=[COLOURS["accent" if n == item.marked else "second"] for n in order],
        linewidths=0,
        zorder=4,
    )
    if names:
        labels = [clip_text(name, _MAX_NAME_LENGTH // 2) for name in names]
        plot.set_xticks(range(len(names)), labels)
        plot.margins(x=0.15)
    elif item.is_log:
        plot.set_xscale("log")
        plot.xaxis.set_major_formatter(lambda value, _: format_rate(value))
        plot.xaxis.set_minor_formatter(lambda value, _: "")
        plot.tick_params(which="minor", length=0)
    else:
        from matplotlib.ticker import MaxNLocator

        plot.xaxis.set_major_locator(MaxNLocator(4))
        plot.xaxis.set_major_formatter(lambda value, _: format_number(round(value, 10)))
    plot.margins(y=0.14)
    _set_titles(plot, item.x_title, item.y_title)
    _set_y_ticks(plot)
    return fig


def draw_bar_chart(item: BarChart) -> Figure:
    """Bars from the top, each with its value in percent at its end."""
    fig = new_figure(4.45, 0.5 + _BAR_HEIGHT * len(item.names))
    plot = new_axes(fig)
    plot.grid(visible=False)
    rows = range(len(item.names))
    plot.barh(rows, item.values, height=0.6, color=COLOURS["second"])
    plot.set_yticks(rows, [clip_text(name, _MAX_NAME_LENGTH) for name in item.names])
    plot.invert_yaxis()
    plot.set_xticks([])
    plot.set_xlim(0, 1.18 * max([*item.values, 1e-9]))
    for row, value in zip(rows, item.values, strict=True):
        plot.annotate(
            f"{value:.0%}",
            (value, row),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=FONT_SIZES["small"],
            color=COLOURS["ink"],
        )
    return fig


def _set_titles(plot: Axes, x_title: str, y_title: str) -> None:
    for name, axis in ((x_title, plot.xaxis), (y_title, plot.yaxis)):
        axis.set_label_text(name, color=COLOURS["muted"], fontsize=FONT_SIZES["small"])


def _set_y_ticks(plot: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    plot.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    plot.yaxis.set_major_formatter(lambda value, _: format_number(round(value, 10)))
