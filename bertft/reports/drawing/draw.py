"""An exhibit that is a picture → its inline SVG and, for a run's folder, its PNG file."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from functools import singledispatch
from pathlib import Path
from typing import TYPE_CHECKING

from bertft.reports.drawing.charts import draw_lines, draw_points
from bertft.reports.drawing.fonts import fonts_for, missing_characters
from bertft.reports.drawing.heat_map import draw_grid
from bertft.reports.drawing.scatter import draw_scatter
from bertft.reports.drawing.svg import inline_svg
from bertft.reports.drawing.theme import matplotlib_settings
from bertft.runs.atomic import atomic_write_bytes
from bertft.runs.exhibits import ReportItem, HeatMap, LineChart, AgreementPlot, ScatterPlot

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Drawing", "draw_item"]

_DPI = 160


@dataclass(frozen=True)
class Drawing:
    """``svg`` for the page; ``missing_characters``: characters for which the PNG had no font."""

    svg: str
    missing_characters: frozenset[str]


def draw_item(exhibit: ReportItem, folder: Path | None = None) -> Drawing:
    """The drawing, also written as ``folder``/<name>.png where a folder is given.

    Raises whatever drawing or writing raises.
    """
    import matplotlib

    text = "".join(_item_texts(exhibit))
    with warnings.catch_warnings(), matplotlib.rc_context(matplotlib_settings(text)):
        warnings.filterwarnings("ignore", message=r"Glyph .* missing")  # told once for all
        figure = _figure(exhibit)
        if folder is not None:
            picture = io.BytesIO()
            figure.savefig(picture, format="png", dpi=_DPI)
            atomic_write_bytes(folder / f"{exhibit.name}.png", picture.getvalue())  # not through a link
        svg = inline_svg(figure, exhibit.name, exhibit.title)
    return Drawing(svg, frozenset(missing_characters(text, fonts_for(text))))


@singledispatch
def _figure(exhibit: ReportItem) -> Figure:
    raise TypeError(f"{type(exhibit).__name__} is no picture")


_figure.register(LineChart, draw_lines)
_figure.register(AgreementPlot, draw_points)
_figure.register(HeatMap, draw_grid)
_figure.register(ScatterPlot, draw_scatter)


def _item_texts(exhibit: ReportItem) -> list[str]:
    """The words that stand in the picture and are not our own."""
    match exhibit:
        case HeatMap():
            return [*exhibit.rows, *exhibit.columns]
        case LineChart():
            return [*exhibit.series]
        case ScatterPlot():
            return [*exhibit.names]
    return []
