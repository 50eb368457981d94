"""The comparison with the default uses the same seeds, and says what was used for the choice."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from bertft.report.compare.bootstrap import Difference
from bertft.search.journal import Journal
from bertft.search.result import Verdict, _answer, _compared_folders, _selection_note
from bertft.search.run import best_trial


def compared(search):
    """The names of the compared runs of the best configuration, and of the default."""
    journal = Journal.open(search.plan.folder, search.plan.space, search.plan.identity)
    best = best_trial(journal, len(search.rungs))
    assert best.folder != journal.default.folder
    folders = _compared_folders(journal, best)
    return best.folder, folders[best.folder], folders[journal.default.folder]


def test_a_seed_that_failed_for_one_of_them_is_left_out_for_both(make_search):
    search = make_search(seeds=(5, 6, 7))
    search.launcher.fails = lambda words: (
        "NaN" if words["seed"] == "6" and words["rate"] != "0.002" else None
    )
    search.run()
    _, best, default = compared(search)
    assert [name[-1] for name in best] == [name[-1] for name in default] == ["5", "7"]
    search = make_search("none", seeds=(5,))
    search.launcher.fails = lambda words: "NaN" if words["seed"] == "5" else None
    search.run()
    name, best, default = compared(search)
    assert (best, default) == ([name], ["0.002-8-0"]), "the runs of the search itself"


def make_row(difference=None, test=None):
    jobs = [SimpleNamespace(metrics={"test": test})]
    is_tie = difference is not None and difference.low <= 0 <= difference.high
    result = SimpleNamespace(jobs=jobs)
    return SimpleNamespace(difference=difference, reason="", is_tie=is_tie, result=result)


@pytest.mark.parametrize(
    ("low", "high", "lower_is_better", "answer"),
    [
        (0.1, 0.3, False, "yes: "),
        (-0.3, -0.1, False, "no, it is worse"),
        (-0.3, -0.1, True, "yes"),
        (-0.1, 0.3, False, "no significant difference: the interval contains 0"),
        (math.nan, math.nan, False, "unknown: the metric is not finite"),
    ],
)
def test_the_answer(low, high, lower_is_better, answer):
    row = make_row(Difference((low + high) / 2, low, high, 0.01))
    comparison = SimpleNamespace(lower_is_better=lower_is_better)
    assert _answer(row, comparison).startswith(answer)


def test_what_was_used_to_choose_is_stated():
    chosen = "The best configuration was chosen on the same validation rows"
    verdict = Verdict("yes", make_row(), make_row())
    assert _selection_note(verdict, "accuracy") == f"{chosen}, which favours it."
    verdict = Verdict("yes", make_row(test={"accuracy": 0.5}), make_row(), None, 0)
    assert _selection_note(verdict, "accuracy") == (
        f"{chosen} and with seed 0, which favours it; the test rows were not used to choose."
    )
