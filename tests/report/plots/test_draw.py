from __future__ import annotations

import re

import matplotlib
import numpy as np
import pytest
from matplotlib.image import imread

from bertft.report.plots.charts import draw_line_chart
from bertft.report.plots.draw import draw_item
from bertft.report.plots.theme import COLOURS
from bertft.tasks.report_items import (
    AgreementPlot,
    BarChart,
    CurvesPlot,
    HeatMap,
    LineChart,
    ScatterPlot,
    SlicePlot,
)

GRID = HeatMap(
    "grid",
    "A grid",
    rows=("<a> & 'b'", "$c$"),
    columns=("x", "y \x1b\ud800"),
    values=np.array([[1.0, np.nan], [0.0, 1234.5]]),
    digits=1,
)
NAN = float("nan")


def test_labels_are_escaped(tmp_path):
    svg = draw_item(GRID, tmp_path).svg
    assert "&lt;a&gt; &amp; 'b'" in svg and "$c$" in svg and "y ��" in svg
    assert ">1,234.5<" in svg and "nan" not in svg
    assert "http" not in svg and "<?xml" not in svg and "DOCTYPE" not in svg and "xmlns" not in svg


def test_colours_are_those_of_the_page(tmp_path):
    svg = draw_item(GRID, tmp_path).svg
    assert set(re.findall(r"#[0-9a-f]{6}\b", svg)) == set()
    assert set(re.findall(r"var\(--([\w-]+)\)", svg)) <= set(COLOURS)
    assert "font-family" not in svg and "DejaVu" not in svg
    assert len(set(COLOURS.values())) == len(COLOURS)


def test_ids_of_pictures_are_unique(tmp_path):
    one, two = (
        draw_item(LineChart(name, name, series={"a": ([1, 2], [3, 4])}), tmp_path).svg
        for name in ("one", "two")
    )
    ids = [set(re.findall(r'\bid="([^"]*)"', svg)) for svg in (one, two)]
    assert ids[0] and not ids[0] & ids[1]


@pytest.mark.parametrize(
    "item",
    [
        LineChart(
            "lines",
            "",
            series={"a": ([1, 2, 3], [1.0, NAN, 2.0]), "b": ([1], [5.0])},
            marked_step=3,
        ),
        LineChart("lines", "", series={"a": ([5], [NAN])}, marked_step=5),
        LineChart("lines", "", series={"a": ([1, 2], [3e9, 3e9])}, is_step_function=True),
        AgreementPlot(
            "points", "", x=np.array([1.0, NAN]), y=np.array([1.0, 2.0]), x_title="", y_title=""
        ),
        ScatterPlot(
            "scatter",
            "",
            names=["a", "$b$" * 40],
            x=[0, 0],
            y=[1.0, 1.0],
            uncertainty=[0.0, 1e9],
            pareto_front=[0, 1],
            x_title="x",
            y_title="y",
        ),
        HeatMap("grid", "", rows=("a",), columns=("b",), values=np.array([[NAN]])),
        HeatMap("grid", "", rows=("a",), columns=("b",), values=np.array([[0.0]])),
    ],
)
def test_gaps_and_extremes(item, tmp_path):
    before = dict(matplotlib.rcParams)
    assert draw_item(item, tmp_path).svg.startswith("<svg")
    assert imread(tmp_path / f"{item.name}.png").shape[2] == 4
    assert dict(matplotlib.rcParams) == before


def test_characters_without_a_font_are_reported(tmp_path, monkeypatch):
    monkeypatch.setattr("bertft.report.plots.theme._FALLBACK_FONTS", ())
    grid = HeatMap("grid", "", rows=("好 a",), columns=("差",), values=np.array([[1.0]]))
    drawing = draw_item(grid, tmp_path)
    assert drawing.missing_characters == {"好", "差"}
    assert "好 a" in drawing.svg


def test_names_of_points_do_not_overlap(tmp_path):
    """Even if all points are equal, the texts in the SVG have different positions."""
    names = [f"name {number}" for number in range(6)]
    scatter = ScatterPlot(
        "scatter",
        "",
        names=names,
        x=[10] * 6,
        y=[1.0] * 6,
        uncertainty=[0.0] * 6,
        pareto_front=[0],
        x_title="",
        y_title="",
    )
    svg = draw_item(scatter, tmp_path).svg
    positions = re.findall(r'transform="translate\(([^)]*)\)[^>]*>name \d', svg) or re.findall(
        r'<text [^>]*x="([^"]*)" y="([^"]*)"[^>]*>name \d', svg
    )
    assert len(positions) == len(set(positions)) == 6


def test_the_axis_ends_at_the_bounds():
    """No F1 below 0 or above 1, wherever the margin would be."""
    chart = LineChart("f1", "f1", series={"f1": ([1, 2, 3], [0.0, 0.4, 1.0])}, bounds=(0.0, 1.0))
    assert draw_line_chart(chart).axes[0].get_ylim() == (0.0, 1.0)
    inside = LineChart("f1", "f1", series={"f1": ([1, 2], [0.5, 0.6])}, bounds=(0.0, 1.0))
    low, high = draw_line_chart(inside).axes[0].get_ylim()
    assert 0.4 < low < 0.5 and 0.6 < high < 0.7


@pytest.mark.parametrize(
    "item",
    [
        CurvesPlot("c", "Curves", curves=[([1, 2], [0.5, 0.6]), ([1], [0.4])], marked=1,
                   x_title="step", y_title="accuracy"),
        SlicePlot("s", "Slice", x=[1e-4, 1e-2], y=[0.5, 0.6], marked=None, is_log=True,
                  x_title="rate", y_title="accuracy"),
        SlicePlot("s", "Slice", x=[0.0, 0.3], y=[0.5, 0.6], marked=0, x_title="rate"),
        SlicePlot("s", "Slice", x=["<a>", "b", "<a>"], y=[0.5, 0.6, 0.7], marked=2),
        BarChart("b", "Bars", names=["<a>", "b"], values=[0.75, 0.25]),
    ],
)  # fmt: skip
def test_charts_of_a_search(item):
    svg = draw_item(item).svg
    assert ("var(--accent)" in svg) == (getattr(item, "marked", None) is not None)
    assert "&lt;a&gt;" in svg or item.name != "b"
    if isinstance(item, BarChart):
        assert ">75%<" in svg and ">25%<" in svg
