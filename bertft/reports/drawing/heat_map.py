"""A grid as a heat map: the accent at the opacity of a cell's shade, its value written in it.

Opacity over the page's own ground makes one picture right in both themes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from unicodedata import east_asian_width

import numpy as np

from bertft.reports.drawing.theme import INKS, SIZES, axes, figure
from bertft.runs.exhibits import Grid, clipped

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_grid"]

_CELL = (0.66, 0.36)  # inches
_FAINTEST, _DARKEST = 0.05, 0.95
_TURNS = 0.72  # from this opacity on, figures read better in the ink that is for the accent
_LABEL, _FOLDED = 18, 8  # characters at most, and from which on a label takes two lines


def draw_grid(grid: Grid) -> Figure:
    """Rows from the top; columns are named above them."""
    rows, columns = grid.values.shape
    names = [_folded(clipped(each, _LABEL)) for each in grid.columns]
    wide = max([_CELL[0], *(0.085 * _width(each) + 0.12 for each in names)])
    margin = 0.085 * max(_width(clipped(each, _LABEL)) for each in grid.rows) + 0.35
    made = figure(max(2.6, wide * columns + margin), _CELL[1] * rows + 0.85)
    plot = axes(made)
    plot.grid(False)
    plot.spines["bottom"].set_visible(False)
    shade = _shade(grid)
    from matplotlib.patches import Rectangle

    for row in range(rows):
        for column in range(columns):
            value, dark = grid.values[row, column], shade[row, column]
            if not np.isfinite(value):
                continue
            ink = INKS["accent"]
            opacity = _FAINTEST + (_DARKEST - _FAINTEST) * float(dark)
            cell = (column - 0.47, row - 0.45)
            plot.add_patch(Rectangle(cell, 0.94, 0.9, facecolor=ink, alpha=opacity, linewidth=0))
            plot.text(
                column, row, f"{value:,.{grid.digits}f}", ha="center", va="center",
                fontsize=SIZES["small"],
                color=INKS["on-accent"] if opacity > _TURNS else INKS["ink"],
            )  # fmt: skip
    plot.set_xlim(-0.5, columns - 0.5)
    plot.set_ylim(rows - 0.5, -0.5)
    plot.xaxis.tick_top()
    plot.xaxis.set_label_position("top")
    plot.set_xticks(range(columns), names)
    plot.set_yticks(range(rows), [clipped(each, _LABEL) for each in grid.rows])
    for title, axis in ((grid.column_title, plot.xaxis), (grid.row_title, plot.yaxis)):
        axis.set_label_text(title, color=INKS["muted"], fontsize=SIZES["small"])
    plot.tick_params(labelcolor=INKS["ink"], pad=4)
    return made


def _shade(grid: Grid) -> np.ndarray:
    if grid.shade is not None:
        return np.clip(grid.shade, 0.0, 1.0)
    greatest = np.nanmax(grid.values) if np.isfinite(grid.values).any() else 0.0
    return np.nan_to_num(grid.values / greatest) if greatest > 0 else np.zeros(grid.values.shape)


def _width(text: str) -> int:
    """In half-width characters: those of Chinese and Japanese take two."""
    lines = text.split("\n")
    return max(sum(2 if east_asian_width(each) in "WF" else 1 for each in line) for line in lines)


def _folded(text: str) -> str:
    """In two lines where it is long and has a space."""
    return text.replace(" ", "\n", 1) if len(text) > _FOLDED else text
