"""Heat maps: each cell has the accent colour at the opacity of its intensity, and its value.

Opacity over the background of the page works in the light and in the dark theme.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from unicodedata import east_asian_width

import numpy as np

from bertft.report.plots.theme import COLOURS, FONT_SIZES, new_axes, new_figure
from bertft.tasks.report_items import HeatMap, clip_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_heat_map"]

_CELL_SIZE = (0.66, 0.36)  # inches
_MIN_OPACITY, _MAX_OPACITY = 0.05, 0.95
_INVERTED_TEXT_OPACITY = 0.72  # more opaque cells have text in the "on-accent" colour
_MAX_LABEL_LENGTH = 18  # characters
_WRAP_LENGTH = 8  # a longer column name takes two lines


def draw_heat_map(grid: HeatMap) -> Figure:
    """The first row is at the top; column names are above the grid."""
    from matplotlib.patches import Rectangle

    rows, columns = grid.values.shape
    names = [_wrap(clip_text(name, _MAX_LABEL_LENGTH)) for name in grid.columns]
    width = max([_CELL_SIZE[0], *(0.085 * _text_width(name) + 0.12 for name in names)])
    row_names = [clip_text(name, _MAX_LABEL_LENGTH) for name in grid.rows]
    margin = 0.085 * max(map(_text_width, row_names)) + 0.35
    fig = new_figure(max(2.6, width * columns + margin), _CELL_SIZE[1] * rows + 0.85)
    plot = new_axes(fig)
    plot.grid(False)
    plot.spines["bottom"].set_visible(False)
    intensities = _intensities(grid)
    for row in range(rows):
        for column in range(columns):
            value, intensity = grid.values[row, column], intensities[row, column]
            if not np.isfinite(value):
                continue
            opacity = _MIN_OPACITY + (_MAX_OPACITY - _MIN_OPACITY) * float(intensity)
            cell = (column - 0.47, row - 0.45)
            colour = COLOURS["accent"]
            plot.add_patch(Rectangle(cell, 0.94, 0.9, facecolor=colour, alpha=opacity, linewidth=0))
            plot.text(
                column,
                row,
                f"{value:,.{grid.digits}f}",
                ha="center",
                va="center",
                fontsize=FONT_SIZES["small"],
                color=COLOURS["on-accent"] if opacity > _INVERTED_TEXT_OPACITY else COLOURS["ink"],
            )
    plot.set_xlim(-0.5, columns - 0.5)
    plot.set_ylim(rows - 0.5, -0.5)
    plot.xaxis.tick_top()
    plot.xaxis.set_label_position("top")
    plot.set_xticks(range(columns), names)
    plot.set_yticks(range(rows), row_names)
    for title, axis in ((grid.column_title, plot.xaxis), (grid.row_title, plot.yaxis)):
        axis.set_label_text(title, color=COLOURS["muted"], fontsize=FONT_SIZES["small"])
    plot.tick_params(labelcolor=COLOURS["ink"], pad=4)
    return fig


def _intensities(grid: HeatMap) -> np.ndarray:
    """The intensities of ``grid``, by default each value divided by the largest one."""
    if grid.intensity is not None:
        return np.clip(grid.intensity, 0.0, 1.0)
    greatest = np.nanmax(grid.values) if np.isfinite(grid.values).any() else 0.0
    return np.nan_to_num(grid.values / greatest) if greatest > 0 else np.zeros(grid.values.shape)


def _text_width(text: str) -> int:
    """Width of the longest line in half-width characters; Chinese and Japanese ones count twice."""
    lines = text.split("\n")
    return max(
        sum(2 if east_asian_width(character) in "WF" else 1 for character in line) for line in lines
    )


def _wrap(text: str) -> str:
    """A long name with a space takes two lines."""
    return text.replace(" ", "\n", 1) if len(text) > _WRAP_LENGTH else text
