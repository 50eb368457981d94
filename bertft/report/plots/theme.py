"""The common style of all pictures: few colours, one accent, no frame, the font of the page.

All colours are different, so that ``draw.inline_svg`` can replace them by the CSS variables of the
page. A PNG file keeps the colours of the light theme.
"""

from __future__ import annotations

import contextlib
import functools
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "COLOURS",
    "FONT_SIZES",
    "fonts_for",
    "matplotlib_settings",
    "missing_characters",
    "new_axes",
    "new_figure",
]

_DEFAULT_FONT = "DejaVu Sans"  # comes with matplotlib
# Fonts with wide coverage first, then fonts of single scripts.
_FALLBACK_FONTS = (
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
    """Installed fonts that together have the characters of ``text``, as far as possible."""
    names, missing = [_DEFAULT_FONT], missing_characters(text, (_DEFAULT_FONT,))
    if missing and not any(missing & _characters(name) for name in _FALLBACK_FONTS):
        _add_new_fonts()
    for name in _FALLBACK_FONTS:
        if not missing:
            break
        if covered := missing & _characters(name):
            names.append(name)
            missing -= covered
    return names


@functools.cache
def _add_new_fonts() -> None:
    """Add the fonts that were installed after matplotlib stored its list of fonts."""
    from matplotlib import font_manager

    known = {font.fname for font in font_manager.fontManager.ttflist}
    for file in set(font_manager.findSystemFonts()) - known:
        with contextlib.suppress(OSError, RuntimeError):  # not a font that matplotlib reads
            font_manager.fontManager.addfont(file)
    _characters.cache_clear()


def missing_characters(text: str, names: Sequence[str]) -> set[str]:
    """The characters of ``text`` that none of the fonts ``names`` has."""
    missing = {
        character
        for character in text
        if not unicodedata.category(character).startswith(("C", "Z"))
    }
    for name in names:
        missing -= _characters(name)
    return missing


@functools.cache
def _characters(name: str) -> frozenset[str]:
    """All characters of a font; empty if it is not installed."""
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    files = [font.fname for font in font_manager.fontManager.ttflist if font.name == name]
    if not files:
        return frozenset()
    return frozenset(map(chr, FT2Font(files[0]).get_charmap()))


# CSS variable → colour in the light theme. No two are equal.
COLOURS = {
    "paper": "#ffffff",
    "ink": "#1b1f27",
    "muted": "#69707d",
    "rule": "#e2e4e8",
    "accent": "#2f5fd0",
    "on-accent": "#fefefe",
    "second": "#a8adb7",
}
FONT_SIZES = {"text": 9.5, "small": 8.5}


def matplotlib_settings(text: str = "") -> Any:
    """The rcParams for a picture that contains ``text``: a dict from names to values."""
    return {
        "svg.fonttype": "none",  # text instead of outlines: the browser has the fonts
        "svg.hashsalt": "bertft",  # equal pictures have equal ids
        "font.family": fonts_for(text),
        "font.size": FONT_SIZES["text"],
        "text.color": COLOURS["ink"],
        "text.parse_math": False,  # a $ in a label does not start a formula
        "axes.unicode_minus": True,
        "path.simplify": True,
    }


def new_figure(width: float, height: float) -> Figure:
    """``width`` and ``height`` in inches; the SVG has 72 units per inch."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), facecolor=COLOURS["paper"], layout="constrained")


def new_axes(fig: Figure) -> Axes:
    """Axes without a frame: a base line, faint horizontal grid lines, grey numbers."""
    plot = fig.add_subplot()
    plot.set_facecolor("none")
    for side in ("top", "right", "left"):
        plot.spines[side].set_visible(False)
    plot.spines["bottom"].set_color(COLOURS["rule"])
    plot.tick_params(
        colors=COLOURS["rule"],
        labelcolor=COLOURS["muted"],
        labelsize=FONT_SIZES["small"],
        length=0,
        pad=6,
    )
    plot.grid(axis="y", color=COLOURS["rule"], linewidth=0.8)
    plot.set_axisbelow(True)
    return plot
