"""The tables and plots of a report as plain values. Tasks and methods create them.

    TableItem       rows of cells                      metrics, examples
    HeatMap         one value per row and column       confusion matrix, layer × module
    LineChart       series over steps                  loss, learning rate
    AgreementPlot   one pair of numbers per row        predicted against true values
    ScatterPlot     named points                       a metric against parameters
    CurvesPlot      many curves, one of them marked    the trials of a search
    SlicePlot       one point per trial                a metric against a setting
    BarChart        one number per name                importance of settings

Each has a ``title`` and a ``note`` that explains it in one sentence. Colours, HTML and plotting are
in ``bertft.report``, which also escapes all text.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = [
    "AgreementPlot",
    "BarChart",
    "ByteCount",
    "CurvesPlot",
    "HeatMap",
    "LineChart",
    "Percent",
    "ReportItem",
    "ScatterPlot",
    "SlicePlot",
    "TableCell",
    "TableItem",
    "clip_text",
    "replace_unprintable",
]


class Percent(float):
    """A fraction from 0 to 1 that is displayed in percent."""


class ByteCount(int):
    """A number of bytes that is displayed with a unit."""


TableCell = str | int | float | None  # int: a count; float: a score; None: an empty cell


@dataclass(frozen=True)
class ReportItem:
    """Base of all items. A plot is also written to ``plots/<name>.png``."""

    name: str
    title: str
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class TableItem(ReportItem):
    """A table with the column names ``head`` [C] and ``rows`` [R] of cells [C].

    ``strong``: indices of the rows in bold. ``kinds`` [C]: layout of each column, "number", "word"
    or "text"; empty: chosen from its cells.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[TableCell]]
    strong: Sequence[int] = ()
    kinds: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class HeatMap(ReportItem):
    """``values`` [R, C] with ``digits`` decimals; NaN: an empty cell.

    ``intensity`` [R, C] in [0, 1]: how dark a cell is; None: its value relative to the maximum.
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
    """``series``: name → (steps, values), the most important one first; NaN is a gap.

    ``marked_step``: the step with a marker. ``is_step_function``: values are constant between
    steps. ``bounds``: the smallest and largest possible value (None: no limit), which limit the
    axis.
    """

    series: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    marked_step: int | None = None
    is_step_function: bool = False
    bounds: tuple[float, float | None] | None = None


@dataclass(frozen=True, kw_only=True)
class AgreementPlot(ReportItem):
    """``x`` and ``y`` [N] on the same scale, with the diagonal x = y."""

    x: np.ndarray
    y: np.ndarray
    x_title: str
    y_title: str


@dataclass(frozen=True, kw_only=True)
class ScatterPlot(ReportItem):
    """Points ``names`` [N] at ``x`` [N] ≥ 0, on a log scale, and ``y`` ± ``uncertainty`` [N].

    ``pareto_front``: indices of the points that are marked and connected by a line. ``lines``:
    indices of the points of other lines.
    """

    names: Sequence[str]
    x: Sequence[int]
    y: Sequence[float]
    uncertainty: Sequence[float]
    pareto_front: Sequence[int]
    x_title: str
    y_title: str
    lines: Sequence[Sequence[int]] = ()


@dataclass(frozen=True, kw_only=True)
class CurvesPlot(ReportItem):
    """``curves``: (x, y) of each curve, without names; ``marked``: the index of one of them."""

    curves: Sequence[tuple[Sequence[float], Sequence[float]]]
    marked: int | None
    x_title: str
    y_title: str


@dataclass(frozen=True, kw_only=True)
class SlicePlot(ReportItem):
    """Points at ``x`` [N] and ``y`` [N]; ``marked``: the index of one of them.

    ``x`` has numbers, on a log scale if ``is_log``, or names.
    """

    x: Sequence[float] | Sequence[str]
    y: Sequence[float]
    marked: int | None
    is_log: bool = False
    x_title: str = ""
    y_title: str = ""


@dataclass(frozen=True, kw_only=True)
class BarChart(ReportItem):
    """One horizontal bar with the fraction ``values`` [N] per name, from the top."""

    names: Sequence[str]
    values: Sequence[float]


def clip_text(text: str, limit: int = 320) -> str:
    """``text`` shortened to ``limit`` characters, printable and on one line."""
    text = replace_unprintable(" ".join(text.split()))
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def replace_unprintable(text: str) -> str:
    """``text`` with � for characters that XML does not allow: control codes, lone surrogates."""
    return "".join("\ufffd" if _is_unprintable(character) else character for character in text)


def _is_unprintable(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs", "Cn") and character not in "\n\t"
