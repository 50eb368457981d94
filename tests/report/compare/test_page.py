"""The page of a comparison: the Pareto front, the tables, what is escaped."""

from __future__ import annotations

import re

import pytest

from bertft.report.compare.comparison import ComparedRow, Comparison
from bertft.report.compare.page import _trade_off_plots, pareto_front, render_comparison
from bertft.report.result_rows import JobResult, ResultRow

NAMES = ["head", "lora r2", "lora r8", "prefix", "svd <&>", "全部"]
SIZES = [0, 18_432, 73_728, 73_728, 73_824, 22_700_000]
VALUES = [0.79, 0.842, 0.848, 0.848, 0.84, 0.882]


def test_the_front_has_no_dominated_point():
    assert pareto_front(SIZES, VALUES, lower=False) == [0, 1, 2, 3, 5]
    assert pareto_front(SIZES, VALUES, lower=True) == [0]


def test_the_front_if_lower_is_better():
    assert pareto_front([10, 20, 30], [0.5, 0.3, 0.4], lower=True) == [0, 1]


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    rows = []
    for name, size, value in zip(NAMES, SIZES, VALUES, strict=True):
        metrics = {"best": {"metric": "accuracy", "value": value, "step": 1000}}
        settings = {"method.name": name}
        job = JobResult(folder / "run", {"seed": "0", **settings}, None, metrics)
        row = ResultRow(
            settings, "accuracy", value, 0.004, 1, 0, size, None, 1.0, None, None,
            best=name == "全部", jobs=(job,),
        )  # fmt: skip
        rows.append(ComparedRow(name, row, size, "rows", reason="one <seed>"))
    return render_comparison(Comparison("accuracy", False, rows, 100, ["a note"]))


def test_texts_are_escaped_and_nothing_is_requested(html):
    assert "svd &lt;&amp;&gt;" in html and "<&>" not in html and "one &lt;seed&gt;" in html
    assert "default-src 'none'" in html and "http" not in html.replace("http-equiv", "")
    assert not re.search(r"url\((?!#)", html)


def test_the_best_row_and_other_settings_are_marked(html):
    assert "<h1>全部 is the best: accuracy 0.8820 ± 0.0040.</h1>" in html
    assert html.count('class="strong"') == 1
    assert '<td class="word">head</td><td class="word set">lora r2</td>' in html


def test_every_point_has_its_name_and_front_points_their_colour(html):
    (svg,) = re.findall(r"<svg.*?</svg>", html, re.DOTALL)
    for name in ("head", "lora r2", "lora r8", "prefix", "svd &lt;&amp;&gt;", "全部"):
        assert svg.count(f">{name}</text>") == 1, name
    for tick in ("0", "10.0k", "100k", "1.0M", "10.0M", "100M"):
        assert f">{tick}</text>" in svg, tick
    assert "var(--accent)" in svg and "var(--second)" in svg


def test_ranks_of_several_runs_have_one_scale(tmp_path):
    from bertft.report.compare.module_values import module_heat_maps

    def row(name, runs):
        jobs = tuple(
            JobResult(tmp_path, {"method.name": name}, None, {"module_values": values})
            for values in runs
        )
        result = ResultRow(
            {}, "accuracy", 0.8, 0.0, 1, 0, 10, None, 1.0, None, None, best=False, jobs=jobs
        )
        return ComparedRow(name, result, 10, "rows")

    low_rank = [{"low_rank": {"rank": {"0.query": q, "0.value": 2.0}}} for q in (4.0, 7.0)]
    rows = [
        row("a", low_rank),
        row("b", [{"low_rank": {"rank": {"0.query": 11.0}}}]),
        row("c", [{}]),
    ]
    first, second = module_heat_maps(Comparison("accuracy", False, rows, 100, []))
    assert first.title == "rank: a" and first.note == "Mean of 2 runs."
    assert first.values.tolist() == [[5.5, 2]] and first.digits == 1
    assert first.intensity.tolist() == [[0.5, 2 / 11]] and second.intensity.tolist() == [[1]]


def test_rows_that_differ_in_their_size_are_connected(tmp_path):
    rows = []
    for name, rank, size in (
        ("svd", "8", 80),
        ("lora", "2", 20),
        ("svd", "2", 30),
        ("lora", "8", 70),
    ):
        settings = {"method.name": name, "method.rank": rank, "seed": "0"}
        job = JobResult(tmp_path, settings, None, {"best": {"value": 0.8, "step": 1}})
        result = ResultRow(
            settings,
            "accuracy",
            0.8,
            0.0,
            1,
            0,
            size,
            None,
            1.0,
            None,
            None,
            best=False,
            jobs=(job,),
        )
        rows.append(ComparedRow(f"{name} r{rank}", result, size, "rows"))
    [plot] = _trade_off_plots(Comparison("accuracy", False, rows, 100, []))
    assert sorted(map(list, plot.lines)) == [[1, 3], [2, 0]] and "size" in plot.note
