"""A figure as SVG that stands in an HTML page: the page's type and colours, no foreign names.

    #2f5fd0 → var(--accent)        every ink of the theme; a picture follows the page's theme
    fonts → those of the page      sizes stay
    ids → prefix-…                 several pictures may stand in one page

XML declaration, document type, namespaces and metadata are left out: HTML needs none of them,
and they name addresses elsewhere.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from bertft.reports.drawing.theme import INKS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["inline_svg"]

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
