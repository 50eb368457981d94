"""The page of a search shows every trial, and has no plot of what was not searched."""

from __future__ import annotations

import re

import pytest

from bertft.search.journal import Journal
from bertft.search.page import importance, render_search
from bertft.search.result import SearchResult, Verdict, trials_table
from bertft.search.run import best_trial


@pytest.fixture
def searched(make_search):
    """``searched(...)``: the result of a search, without a comparison."""

    def build(**settings):
        search = make_search(**settings)
        search.run()
        plan = search.plan
        journal = Journal.open(plan.folder, plan.space, plan.identity)
        best = best_trial(journal, len(search.rungs))
        verdict = Verdict("unknown: the runs of this test have no statistics")
        return SearchResult(plan, journal, search.rungs, journal.trials, best, verdict)

    return build


def test_a_page(searched):
    result = searched(trials=8)
    page = render_search(result)
    assert "<h1>best: rate=" in page and "better than the default? unknown" in page
    assert page.count("<svg") == 4, "curves, importance and one slice per setting"
    assert "could not be rendered" not in page and "http" not in page.partition("</head>")[2]
    table = trials_table(result)
    assert table.head == ["trial", "rate", "rank", "1/8", "1/4", "1/2", "all", ""]
    assert len(table.rows) == 8 and len(table.strong) == 1
    for row in table.rows:
        assert all(f">{cell}<" in page for cell in row[:3])
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(set(ids)) == len(ids)


def test_the_setting_that_matters_is_the_most_important(searched):
    values = importance(searched(trials=16))
    assert list(values) == ["rate", "rank"] and sum(values.values()) == pytest.approx(1)
    assert importance(searched(folder="few", trials=3)) == {}
