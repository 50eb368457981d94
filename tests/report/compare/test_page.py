"""The page of a comparison: the Pareto front, the tables, what is escaped."""

from __future__ import annotations

import re

import pytest

from bertft.report.compare.comparison import ComparedRow, Comparison
from bertft.report.compare.page import pareto_front, render_comparison
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
