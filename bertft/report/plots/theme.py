"""One look for every picture: few inks, one accent, no frame, text in the page's own type.

Every ink is a colour of its own, so that the SVG's colours can be exchanged for the page's CSS
variables (``svg``), while the PNG keeps those of the light theme.
"""

from __future__ import annotations

import functools
import unicodedata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "INKS",
    "PAPER",
    "SIZES",
    "axes",
    "figure",
    "fonts_for",
    "matplotlib_settings",
    "missing_characters",
]


_DEFAULT_FONT = "DejaVu Sans"  # comes with matplotlib
# Wide coverage first; of the others those whose names say that they are made for such scripts.
_KNOWN = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Source Han Sans SC",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Microsoft YaHei",
    "PingFang SC",
    "Hiragino Sans GB",
    "SimHei",
    "Arial Unicode MS",
    "Noto Sans CJK KR",
    "Noto Sans CJK TC",
    "Malgun Gothic",
    "Droid Sans Fallback",
    "Noto Sans Arabic",
    "Noto Sans Hebrew",
    "Noto Sans Devanagari",
    "Noto Sans Thai",
    "FreeSans",
)


def fonts_for(text: str) -> list[str]:
    """Names of fonts that together have the characters of ``text``, as far as there are any."""
    names, missing = [_DEFAULT_FONT], missing_characters(text, (_DEFAULT_FONT,))
    for name in _KNOWN if missing else ():
        if covered := missing & _characters(name):
            names.append(name)
            missing -= covered
        if not missing:
            break
    return names


def missing_characters(text: str, names: tuple[str, ...] | list[str]) -> set[str]:
    """The characters of ``text`` that none of the fonts ``names`` has."""
    wanted = {each for each in text if not unicodedata.category(each).startswith(("C", "Z"))}
    for name in names:
        wanted -= _characters(name)
    return wanted


@functools.cache
def _characters(name: str) -> frozenset[str]:
    """All characters of an installed font; empty where it is not installed."""
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    manager = font_manager.fontManager
    files = [each.fname for each in manager.ttflist if each.name == name]
    if not files:
        return frozenset()
    return frozenset(map(chr, FT2Font(files[0]).get_charmap()))


# CSS variable → its colour in the light theme; no two are equal.
INKS = {
    "paper": "#ffffff",
    "ink": "#1b1f27",
    "muted": "#69707d",
    "rule": "#e2e4e8",
    "accent": "#2f5fd0",
    "on-accent": "#fefefe",
    "second": "#a8adb7",
}
PAPER = INKS["paper"]
SIZES = {"text": 9.5, "small": 8.5}


def matplotlib_settings(texts: str = "") -> Any:
    """matplotlib's settings while a picture with these ``texts`` is drawn."""
    return {
        "svg.fonttype": "none",  # text stays text: the browser has the fonts for it
        "svg.hashsalt": "bertft",  # the same picture has the same ids
        "font.family": fonts_for(texts),
        "font.size": SIZES["text"],
        "text.color": INKS["ink"],
        "text.parse_math": False,  # a $ in a label is a dollar
        "axes.unicode_minus": True,
        "path.simplify": True,
    }


def figure(width: float, height: float) -> Figure:
    """Inches, at 72 units an inch in the SVG."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), facecolor=PAPER, layout="constrained")


def axes(fig: Figure) -> Axes:
    """Axes without a frame: a base line, faint horizontal rules, muted figures."""
    plot = fig.add_subplot()
    plot.set_facecolor("none")
    for side in ("top", "right", "left"):
        plot.spines[side].set_visible(False)
    plot.spines["bottom"].set_color(INKS["rule"])
    plot.tick_params(
        colors=INKS["rule"], labelcolor=INKS["muted"], labelsize=SIZES["small"], length=0, pad=6
    )
    plot.grid(axis="y", color=INKS["rule"], linewidth=0.8)
    plot.set_axisbelow(True)
    return plot
