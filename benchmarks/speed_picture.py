"""The picture of docs/performance.md, drawn from the figures of its own tables of speed.

    python -m benchmarks.speed_picture     writes docs/images/speed-light.svg and speed-dark.svg

One panel per table, one bar per row: the median of samples per second, with the slowest and the
fastest round. The header "… | samples/s | rounds | …" identifies a table.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from benchmarks.picture import ROOT, THEMES, save

__all__ = ["Panel", "draw", "main", "panels", "title"]

_TABLE = re.compile(
    r"^\| (?P<work>[^|]+) \| samples/s \| rounds \|[^\n]*\n\|[-|]+\|\n(?P<rows>(?:\|.*\n?)+)",
    re.MULTILINE,
)
_ROW = re.compile(r"^\| ([^|]+) \| ([\d.]+) \| ([\d.]+) to ([\d.]+) \|", re.MULTILINE)


@dataclass(frozen=True)
class Panel:
    """``rows``: name, median, slowest, quickest."""

    work: str
    rows: list[tuple[str, float, float, float]]


def panels(page: str) -> list[Panel]:
    """The tables in their order."""
    return [
        Panel(
            table["work"],
            [
                (name.replace("`", ""), float(median), float(low), float(high))
                for name, median, low, high in _ROW.findall(table["rows"])
            ],
        )
        for table in _TABLE.finditer(page)
    ]


def title(panels: list[Panel]) -> str:
    """The picture in words, by which a file tells which figures it was drawn from."""
    rows = (f"{name} {median:g}" for panel in panels for name, median, _, _ in panel.rows)
    return "; ".join(rows)


def draw(panels: list[Panel], theme: str, file: Path) -> None:
    """An SVG without a ground of its own, the same bytes for the same rows."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    inks = THEMES[theme]
    sizes = [len(panel.rows) for panel in panels]
    with mpl.rc_context({"font.size": 10, "svg.hashsalt": theme, "text.color": inks["ink"]}):
        figure = Figure(figsize=(7.2, 0.3 * sum(sizes) + 0.75 * len(panels)), layout="constrained")
        parts = figure.subplots(len(panels), height_ratios=[size + 1 for size in sizes])
        for axes, panel in zip([parts] if len(panels) == 1 else parts, panels, strict=True):
            for place, (name, median, low, high) in enumerate(panel.rows):
                ink = inks["ours"] if name.startswith("bertft") else inks["muted"]
                axes.barh(place, median, 0.62, color=ink)
                axes.errorbar(
                    median, place, xerr=[[median - low], [high - median]], color=inks["ink"],
                    capsize=2, linewidth=1,
                )  # fmt: skip
                axes.annotate(
                    f"{median:g}", (high, place), xytext=(5, 0), textcoords="offset points",
                    va="center",
                )  # fmt: skip
            axes.set_yticks(range(len(panel.rows)), [row[0] for row in panel.rows])
            axes.set_ylim(len(panel.rows) - 0.4, -0.6)
            axes.set_xlim(0, 1.12 * max(row[3] for row in panel.rows))
            axes.set_title(f"{panel.work}: samples per second", loc="left", fontsize=10)
            axes.set_xticks([])
            axes.tick_params(colors=inks["ink"], length=0)
            axes.spines[:].set_visible(False)
        save(figure, file, title(panels))


def main() -> None:
    panels_of_page = panels((ROOT / "docs" / "performance.md").read_text(encoding="utf-8"))
    for theme in THEMES:
        draw(panels_of_page, theme, ROOT / "docs" / "images" / f"speed-{theme}.svg")


if __name__ == "__main__":
    main()
