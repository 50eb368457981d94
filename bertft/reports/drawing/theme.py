"""One look for every picture: few inks, one accent, no frame, text in the page's own type.

Every ink is a colour of its own, so that the SVG's colours can be exchanged for the page's CSS
variables (``svg``), while the PNG keeps those of the light theme.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bertft.reports.drawing.fonts import fonts_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["INKS", "PAPER", "SIZES", "axes", "figure", "matplotlib_settings"]

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
