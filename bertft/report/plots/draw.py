"""Draws a report item as inline SVG, and as a PNG file for a run folder."""

from __future__ import annotations

import io
import re
import warnings
from dataclasses import dataclass
from functools import singledispatch
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from bertft.report.plots.charts import draw_agreement_plot, draw_line_chart, draw_scatter_plot
from bertft.report.plots.heat_map import draw_heat_map
from bertft.report.plots.search_charts import draw_bar_chart, draw_curves, draw_slice_plot
from bertft.report.plots.theme import COLOURS, fonts_for, matplotlib_settings, missing_characters
from bertft.tasks.report_items import (
    AgreementPlot,
    BarChart,
    CurvesPlot,
    HeatMap,
    LineChart,
    ReportItem,
    ScatterPlot,
    SlicePlot,
)
from bertft.utils.atomic_io import atomic_write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "Drawing",
    "draw_item",
    "inline_svg",
]


_DPI = 160
_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"
_COLOUR_VARIABLES = {colour: f"var(--{name})" for name, colour in COLOURS.items()}
_COLOUR = re.compile(r"#[0-9a-f]{6}\b")
_FONT_FAMILY = re.compile(r"font-family:[^;]*;?\s*")
_FONT_SHORTHAND = re.compile(r"font:\s*(?P<weight>(?:bold|\d00)\s+)?(?P<size>[\d.]+px)[^;]*")


def inline_svg(figure: Figure, name: str, label: str) -> str:
    """The figure as SVG to embed in HTML, with the colours of the page's style sheet.

    Args:
        figure: The figure.
        name: Prefix of the ids, so that they are unique in the page.
        label: What the picture shows, for screen readers.
    """
    content = io.BytesIO()
    figure.savefig(content, format="svg", transparent=True, metadata={"Date": None})
    root = ElementTree.fromstring(content.getvalue())
    for parent in root.iter():
        for child in list(parent):
            if child.tag.endswith("metadata"):
                parent.remove(child)
    for node in root.iter():
        node.tag = node.tag.removeprefix(_SVG)
        attributes = dict(_inline_attribute(key, value) for key, value in node.items())
        node.attrib = {key: _prefix_ids(key, value, name) for key, value in attributes.items()}
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    width = float(root.attrib["viewBox"].split()[2]) / 72
    root.attrib |= {"role": "img", "aria-label": label, "style": f"width: {width:.2f}in"}
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)


def _inline_attribute(key: str, value: str) -> tuple[str, str]:
    """An attribute without namespace, with CSS variables as colours and without font families."""
    if key == _LINK:
        return "href", value
    value = _COLOUR.sub(lambda match: _COLOUR_VARIABLES.get(match[0], match[0]), value)
    if key == "style":
        value = _FONT_FAMILY.sub("", _FONT_SHORTHAND.sub(_expand_font, value))
    return key, value


def _expand_font(match: re.Match[str]) -> str:
    """``font: bold 9px 'DejaVu Sans'`` → ``font-size: 9px; font-weight: bold``."""
    weight = f"; font-weight: {match['weight'].strip()}" if match["weight"] else ""
    return f"font-size: {match['size']}{weight}"


def _prefix_ids(key: str, value: str, name: str) -> str:
    if key == "id":
        return f"{name}-{value}"
    if key == "href" and value.startswith("#"):
        return f"#{name}-{value[1:]}"
    return re.sub(r"url\(#([^)]*)\)", rf"url(#{name}-\1)", value)


@dataclass(frozen=True)
class Drawing:
    """``missing_characters``: characters that no installed font has, boxes in the PNG."""

    svg: str
    missing_characters: frozenset[str]


def draw_item(item: ReportItem, folder: Path | None = None) -> Drawing:
    """Draw ``item``; also write ``folder``/<name>.png if a folder is given.

    An exception of drawing or writing is not caught.
    """
    import matplotlib

    text = "".join(_item_texts(item))
    with warnings.catch_warnings(), matplotlib.rc_context(matplotlib_settings(text)):
        # Reported once for all pictures.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing")
        # The picture is drawn with margins of a fixed size then.
        warnings.filterwarnings("ignore", message=r"constrained_layout not applied")
        figure = _draw_figure(item)
        if folder is not None:
            picture = io.BytesIO()
            figure.savefig(picture, format="png", dpi=_DPI)
            atomic_write_bytes(folder / f"{item.name}.png", picture.getvalue())
        svg = inline_svg(figure, item.name, item.title)
    return Drawing(svg, frozenset(missing_characters(text, fonts_for(text))))


@singledispatch
def _draw_figure(item: ReportItem) -> Figure:
    raise TypeError(f"{type(item).__name__} cannot be drawn")


_draw_figure.register(LineChart, draw_line_chart)
_draw_figure.register(AgreementPlot, draw_agreement_plot)
_draw_figure.register(HeatMap, draw_heat_map)
_draw_figure.register(ScatterPlot, draw_scatter_plot)
_draw_figure.register(CurvesPlot, draw_curves)
_draw_figure.register(SlicePlot, draw_slice_plot)
_draw_figure.register(BarChart, draw_bar_chart)


def _item_texts(item: ReportItem) -> list[str]:
    """Names from data and runs that the picture contains; they decide which fonts it needs."""
    match item:
        case HeatMap():
            return [*item.rows, *item.columns]
        case LineChart():
            return [*item.series]
        case ScatterPlot() | BarChart():
            return [*item.names]
        case SlicePlot():
            return [str(x) for x in item.x if isinstance(x, str)]
    return []
