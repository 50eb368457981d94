"""README's picture, drawn from the figures of README's own table of measured methods.

    python -m benchmarks.picture        writes docs/images/methods-light.svg and methods-dark.svg

A line a method, the best first: mean dev accuracy, ± one standard deviation over the seeds where
there are several; at the right what it keeps.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ROOT", "THEMES", "Measured", "draw", "main", "measured", "save", "title"]

ROOT = Path(__file__).parents[1]
THEMES = {
    "light": {"ink": "#1f2328", "muted": "#656d76", "rule": "#d8dee4", "ours": "#2f5fd0"},
    "dark": {"ink": "#e6edf3", "muted": "#8d96a0", "rule": "#30363d", "ours": "#7aa2ff"},
}
_ROW = re.compile(
    r"^\| (?P<name>[^|]+) \| (?P<parameters>[\d,]+) \| \d+ \| (?P<value>[\d.]+)"
    r"(?: ± (?P<std>[\d.]+))? \| \d+ \|$",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Measured:
    """A row of the table; ``std`` is None of a single seed."""

    name: str
    parameters: str
    value: float
    std: float | None


def measured(readme: str) -> list[Measured]:
    """The rows, the best first."""
    rows = [
        Measured(
            row["name"].replace("`", ""), row["parameters"], float(row["value"]),
            float(row["std"]) if row["std"] else None,
        )
        for row in _ROW.finditer(readme)
    ]  # fmt: skip
    return sorted(rows, key=lambda row: -row.value)


def title(rows: list[Measured]) -> str:
    """The picture in words, by which a file tells which figures it was drawn from."""
    return "; ".join(f"{row.name} {row.value:.4f} ± {row.std or 0:.4f}" for row in rows)


def draw(rows: list[Measured], theme: str, file: Path) -> None:
    """An SVG without a ground of its own, the same bytes for the same rows."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    inks = THEMES[theme]
    with mpl.rc_context({"font.size": 10, "svg.hashsalt": theme, "text.color": inks["ink"]}):
        figure = Figure(figsize=(7.2, 0.36 * len(rows) + 0.9), layout="constrained")
        axes = figure.add_subplot()
        for place, row in enumerate(rows):
            ink = inks["muted"] if row.name.startswith("peft") else inks["ours"]
            axes.errorbar(
                row.value, place, xerr=row.std, fmt="o", color=ink, markersize=6, capsize=3
            )
            axes.annotate(
                row.parameters, (1.02, place), xycoords=("axes fraction", "data"), va="center",
                color=inks["muted"],
            )  # fmt: skip
        axes.annotate(
            "parameters kept", (1.02, -0.9), xycoords=("axes fraction", "data"), va="center",
            color=inks["muted"], annotation_clip=False,
        )  # fmt: skip
        axes.set_yticks(range(len(rows)), [row.name for row in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlabel("SST-2 dev accuracy, 8,000 training rows, MiniLM-L6", color=inks["ink"])
        axes.grid(axis="x", color=inks["rule"])
        axes.set_axisbelow(True)
        axes.tick_params(colors=inks["ink"], length=0)
        axes.spines[:].set_visible(False)
        save(figure, file, title(rows))


def save(figure: Figure, file: Path, title: str) -> None:
    """Write an SVG with ``title`` in its metadata."""
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Title": title})


def main() -> None:
    rows = measured((ROOT / "README.md").read_text(encoding="utf-8"))
    folder = ROOT / "docs" / "images"
    folder.mkdir(exist_ok=True)
    for theme in THEMES:
        draw(rows, theme, folder / f"methods-{theme}.svg")


if __name__ == "__main__":
    main()
