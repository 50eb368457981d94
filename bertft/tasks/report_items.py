"""Report items: tables and figures as plain values, which tasks and methods return.

    TableItem        rows of cells                       numbers right-aligned, text left-aligned
    HeatMap          one value per row and column        confusions, layer × module
    LineChart        series over steps                   curves
    AgreementPlot    one pair of numbers per row         truth against prediction
    ScatterPlot      named points                        a metric against parameters

Each has a ``title`` and a ``note``, one sentence that explains how to read it. This module does not
depend on colours, HTML or a plotting package. Texts are not escaped; the renderer escapes them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = [
    "AgreementPlot",
    "ByteCount",
    "HeatMap",
    "LineChart",
    "Percent",
    "ReportItem",
    "ScatterPlot",
    "TableCell",
    "TableItem",
    "clip_text",
    "replace_unprintable",
]


class Percent(float):
    """A fraction from 0 to 1 that is displayed in percent."""


class ByteCount(int):
    """A number of bytes, displayed with a unit."""


TableCell = str | int | float | None  # int: a count; float: a score; None: empty


@dataclass(frozen=True)
class ReportItem:
    """Base class of report items; a figure is saved as plots/<name>.png."""

    name: str
    title: str
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class TableItem(ReportItem):
    """``rows`` [R] of cells [C] with the header ``head`` [C]; ``strong``: indices of bold rows.

    ``kinds`` [C]: the format of each column, "number", "word" or "text"; empty: from its cells.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[TableCell]]
    strong: Sequence[int] = ()
    kinds: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class HeatMap(ReportItem):
    """``values`` [R, C], NaN for an empty cell, shown with ``digits`` decimals.

    ``intensity`` [R, C] in [0, 1]: how dark a cell is; None: its fraction of the maximum.
    """

    rows: Sequence[str]
    columns: Sequence[str]
    values: np.ndarray
    intensity: np.ndarray | None = None
    row_title: str = ""
    column_title: str = ""
    digits: int = 0


@dataclass(frozen=True, kw_only=True)
class LineChart(ReportItem):
    """``series``: name → (steps, values), the most important first; NaN is a gap.

    ``marked_step``: a step to highlight. ``is_step_function``: a value holds until the next one.
    """

    series: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    marked_step: int | None = None
    is_step_function: bool = False


@dataclass(frozen=True, kw_only=True)
class AgreementPlot(ReportItem):
    """``x`` and ``y`` [N] on the same scale; on the diagonal they agree."""

    x: np.ndarray
    y: np.ndarray
    x_title: str
    y_title: str


@dataclass(frozen=True, kw_only=True)
class ScatterPlot(ReportItem):
    """Points with ``names`` [N]: ``x`` [N] ≥ 0 on a log scale, ``y`` [N] ± ``uncertainty`` [N].

    ``pareto_front``: indices of the points that are highlighted and connected by a line.
    """

    names: Sequence[str]
    x: Sequence[int]
    y: Sequence[float]
    uncertainty: Sequence[float]
    pareto_front: Sequence[int]
    x_title: str
    y_title: str


def clip_text(text: str, limit: int = 320) -> str:
    """``text`` shortened to ``limit`` characters, printable and on one line."""
    text = replace_unprintable(" ".join(text.split()))
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def replace_unprintable(text: str) -> str:
    """Replaces characters that are invalid in XML (control characters, lone surrogates) by �."""
    return "".join("\ufffd" if _is_unprintable(character) else character for character in text)


def _is_unprintable(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs", "Cn") and character not in "\n\t"
