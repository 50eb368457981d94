"""What a run shows of itself, as plain values: tasks and methods give it, the report draws it.

    Table     rows of cells                       numbers stand to the right, text to the left
    Grid      a value for each row and column     a heat map: confusions, layer × module
    Lines     series over steps                   curves
    Points    a pair of numbers a row             truth against answer
    Scatter   named points                        a metric against parameters

Each has a ``title`` and a ``note`` that says in a sentence how it is read. Nothing here knows of
colours, HTML or a plotting package, and every text is what it is: whoever draws it escapes it.
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
    """A part of a whole, from 0 to 1, that is read in percent."""


class ByteCount(int):
    """Bytes."""


TableCell = str | int | float | None  # int: a count; float: a score; None: there is none


@dataclass(frozen=True)
class ReportItem:
    """Base of all; the file plots/<name>.png of a picture has its ``name``."""

    name: str
    title: str
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class TableItem(ReportItem):
    """``rows`` [R] of cells [C] under ``head`` [C]; ``strong``: the numbers of the rows to mark.

    ``kinds`` [C]: how a column is set, as "number", "word" or "text"; empty: as its cells suggest.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[TableCell]]
    strong: Sequence[int] = ()
    kinds: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class HeatMap(ReportItem):
    """``values`` [R, C], NaN where there is none, written with ``digits`` behind the point.

    ``intensity`` [R, C] in [0, 1] is how dark a cell is; None: its share of the greatest value.
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
    """``series``: name → (steps, values), the first being the one that matters; NaN is a gap.

    ``marked_step``: a step to point at. ``is_step_function``: a value holds until the next one.
    """

    series: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    marked_step: int | None = None
    is_step_function: bool = False


@dataclass(frozen=True, kw_only=True)
class AgreementPlot(ReportItem):
    """``x`` and ``y`` [N] on one scale: the diagonal is where they agree."""

    x: np.ndarray
    y: np.ndarray
    x_title: str
    y_title: str


@dataclass(frozen=True, kw_only=True)
class ScatterPlot(ReportItem):
    """Points with ``names`` [N]: ``x`` [N] ≥ 0 in powers of ten, ``y`` [N] ± ``uncertainty`` [N].

    ``pareto_front``: the numbers of the points that are marked and joined by a line.
    """

    names: Sequence[str]
    x: Sequence[int]
    y: Sequence[float]
    uncertainty: Sequence[float]
    pareto_front: Sequence[int]
    x_title: str
    y_title: str


def clip_text(text: str, limit: int = 320) -> str:
    """``text`` in at most ``limit`` characters, printable and on one line."""
    text = replace_unprintable(" ".join(text.split()))
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def replace_unprintable(text: str) -> str:
    """Without what no XML may hold: control characters and lone surrogates become �."""
    return "".join("\ufffd" if _is_unprintable(character) else character for character in text)


def _is_unprintable(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs", "Cn") and character not in "\n\t"
