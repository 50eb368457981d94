"""A grid as a heat map: the accent at the opacity of a cell's shade, its value written in it.

Opacity over the page's own ground makes one picture right in both themes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from unicodedata import east_asian_width

import numpy as np

from bertft.report.plots.theme import INKS, SIZES, axes, figure
from bertft.tasks.report_items import HeatMap, clip_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_grid"]

_CELL_SIZE = (0.66, 0.36)  # inches
_MIN_OPACITY, _MAX_OPACITY = 0.05, 0.95
_INVERTED_TEXT_OPACITY = (
    0.72  # from this opacity on, figures read better in the ink that is for the accent
)
_LABEL_LENGTH, _WRAPPED_LENGTH = (
    18,
    8,
)  # characters at most, and from which on a label takes two lines


def draw_grid(grid: HeatMap) -> Figure:
    """Rows from the top; columns are named above them."""
    rows, columns = grid.values.shape
    names = [_wrapped(clip_text(each, _LABEL_LENGTH)) for each in grid.columns]
    wide = max([_CELL_SIZE[0], *(0.085 * _text_width(each) + 0.12 for each in names)])
    margin = 0.085 * max(_text_width(clip_text(each, _LABEL_LENGTH)) for each in grid.rows) + 0.35
    fig = figure(max(2.6, wide * columns + margin), _CELL_SIZE[1] * rows + 0.85)
    plot = axes(fig)
    plot.grid(False)
    plot.spines["bottom"].set_visible(False)
    shade = _shades(grid)
    from matplotlib.patches import Rectangle

    for row in range(rows):
        for column in range(columns):
            value, shade_value = grid.values[row, column], shade[row, column]
            if not np.isfinite(value):
                continue
            ink = INKS["accent"]
            opacity = _MIN_OPACITY + (_MAX_OPACITY - _MIN_OPACITY) * float(shade_value)
            cell = (column - 0.47, row - 0.45)
            plot.add_patch(Rectangle(cell, 0.94, 0.9, facecolor=ink, alpha=opacity, linewidth=0))
            plot.text(
                column,
                row,
                f"{value:,.{grid.digits}f}",
                ha="center",
                va="center",
                fontsize=SIZES["small"],
                color=INKS["on-accent"] if opacity > _INVERTED_TEXT_OPACITY else INKS["ink"],
            )
    plot.set_xlim(-0.5, columns - 0.5)
    plot.set_ylim(rows - 0.5, -0.5)
    plot.xaxis.tick_top()
    plot.xaxis.set_label_position("top")
    plot.set_xticks(range(columns), names)
    plot.set_yticks(range(rows), [clip_text(each, _LABEL_LENGTH) for each in grid.rows])
    for title, axis in ((grid.column_title, plot.xaxis), (grid.row_title, plot.yaxis)):
        axis.set_label_text(title, color=INKS["muted"], fontsize=SIZES["small"])
    plot.tick_params(labelcolor=INKS["ink"], pad=4)
    return fig


def _shades(grid: HeatMap) -> np.ndarray:
    if grid.intensity is not None:
        return np.clip(grid.intensity, 0.0, 1.0)
    greatest = np.nanmax(grid.values) if np.isfinite(grid.values).any() else 0.0
    return np.nan_to_num(grid.values / greatest) if greatest > 0 else np.zeros(grid.values.shape)


def _text_width(text: str) -> int:
    """In half-width characters: those of Chinese and Japanese take two."""
    lines = text.split("\n")
    return max(sum(2 if east_asian_width(each) in "WF" else 1 for each in line) for line in lines)


def _wrapped(text: str) -> str:
    """In two lines where it is long and has a space."""
    return text.replace(" ", "\n", 1) if len(text) > _WRAPPED_LENGTH else text
