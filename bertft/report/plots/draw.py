"""An exhibit that is a picture → its inline SVG and, for a run's folder, its PNG file."""

from __future__ import annotations

import io
import re
import warnings
from dataclasses import dataclass
from functools import singledispatch
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from bertft.report.plots.charts import draw_lines, draw_points, draw_scatter
from bertft.report.plots.heat_map import draw_grid
from bertft.report.plots.theme import INKS, fonts_for, matplotlib_settings, missing_characters
from bertft.tasks.report_items import AgreementPlot, HeatMap, LineChart, ReportItem, ScatterPlot
from bertft.utils.atomic_io import atomic_write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "Drawing",
    "draw_item",
    "inline_svg",
]


_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"
_BY_COLOUR = {colour: f"var(--{name})" for name, colour in INKS.items()}
_COLOUR = re.compile(r"#[0-9a-f]{6}\b")
_FONT = re.compile(r"font-family:[^;]*;?\s*")
_SHORT_FONT = re.compile(r"font:\s*(?P<weight>(?:bold|\d00)\s+)?(?P<size>[\d.]+px)[^;]*")


def inline_svg(figure: Figure, name: str, label: str) -> str:
    """``name`` sets its ids apart; ``label`` says what it shows to those who cannot see it."""
    text = io.BytesIO()
    figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    root = ElementTree.fromstring(text.getvalue())
    for parent in root.iter():
        for child in list(parent):
            if child.tag.endswith("metadata"):
                parent.remove(child)
    for node in root.iter():
        node.tag = node.tag.removeprefix(_SVG)
        attributes = dict(_attribute(key, value) for key, value in node.items())
        node.attrib = {key: _with_prefix(key, value, name) for key, value in attributes.items()}
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    box = [float(each) for each in root.attrib["viewBox"].split()]
    root.attrib |= {"role": "img", "aria-label": label, "style": f"width: {box[2] / 72:.2f}in"}
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)


def _attribute(key: str, value: str) -> tuple[str, str]:
    if key == _LINK:
        return "href", value
    value = _COLOUR.sub(lambda found: _BY_COLOUR.get(found[0], found[0]), value)
    if key == "style":
        value = _SHORT_FONT.sub(
            lambda found: (
                f"font-size: {found['size']}"
                + (f"; font-weight: {found['weight'].strip()}" if found["weight"] else "")
            ),
            value,
        )
        value = _FONT.sub("", value)
    return key, value


def _with_prefix(key: str, value: str, name: str) -> str:
    if key == "id":
        return f"{name}-{value}"
    if key == "href" and value.startswith("#"):
        return f"#{name}-{value[1:]}"
    return re.sub(r"url\(#([^)]*)\)", rf"url(#{name}-\1)", value)


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
            atomic_write_bytes(
                folder / f"{exhibit.name}.png", picture.getvalue()
            )  # not through a link
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
