"""An exhibit that is a picture → its inline SVG and, for a run's folder, its PNG file."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from functools import singledispatch
from pathlib import Path
from typing import TYPE_CHECKING

from bertft.reports.drawing.charts import draw_lines, draw_points
from bertft.reports.drawing.fonts import families, lacking
from bertft.reports.drawing.heat_map import draw_grid
from bertft.reports.drawing.scatter import draw_scatter
from bertft.reports.drawing.svg import inline_svg
from bertft.reports.drawing.theme import settings
from bertft.runs.atomic import write_bytes
from bertft.runs.exhibits import Exhibit, Grid, Lines, Points, Scatter

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Drawn", "draw"]

_DPI = 160


@dataclass(frozen=True)
class Drawn:
    """``svg`` for the page; ``unknown``: characters for which the PNG had no font."""

    svg: str
    unknown: frozenset[str]


def draw(exhibit: Exhibit, folder: Path | None = None) -> Drawn:
    """The drawing, also written as ``folder``/<name>.png where a folder is given.

    Raises whatever drawing or writing raises.
    """
    import matplotlib

    text = "".join(_texts(exhibit))
    with warnings.catch_warnings(), matplotlib.rc_context(settings(text)):
        warnings.filterwarnings("ignore", message=r"Glyph .* missing")  # told once for all
        figure = _figure(exhibit)
        if folder is not None:
            picture = io.BytesIO()
            figure.savefig(picture, format="png", dpi=_DPI)
            write_bytes(folder / f"{exhibit.name}.png", picture.getvalue())  # not through a link
        svg = inline_svg(figure, exhibit.name, exhibit.title)
    return Drawn(svg, frozenset(lacking(text, families(text))))


@singledispatch
def _figure(exhibit: Exhibit) -> Figure:
    raise TypeError(f"{type(exhibit).__name__} is no picture")


_figure.register(Lines, draw_lines)
_figure.register(Points, draw_points)
_figure.register(Grid, draw_grid)
_figure.register(Scatter, draw_scatter)


def _texts(exhibit: Exhibit) -> list[str]:
    """The words that stand in the picture and are not our own."""
    match exhibit:
        case Grid():
            return [*exhibit.rows, *exhibit.columns]
        case Lines():
            return [*exhibit.series]
        case Scatter():
            return [*exhibit.names]
    return []
