"""The search: what is trained, what is kept after a kill, and how time and failures limit it."""

from __future__ import annotations

import contextlib

import pytest

from bertft.config.search_space import Distribution
from bertft.errors import SweepError, UsageError
from bertft.search.halving import RungResult
from bertft.search.journal import Journal
from bertft.search.result import read_result, trials_table, verdict_lines
from bertft.search.run import best_trial

DEFAULT = {"rate": "0.002", "rank": "8"}
RATE = Distribution("interval(3e-2,1e-1)", low=3e-2, high=1e-1)


def trials_of(search):
    """The trials as they are stored, without their time."""
    plan = search.plan
    journal = Journal.open(plan.folder, plan.space, plan.identity)
    return journal.trials, journal.finals, best_trial(journal, len(search.rungs))


def test_half_of_the_trials_continue_at_each_rung(make_search, capsys):
    search = make_search()
    search.run()
    calls = search.launcher.calls
    assert calls[0] == ("0.002-8-0", 0, 16), "the default comes first"
    rungs = [call[1:] for call in calls if call[0].endswith("-0")][1:]
    # The default is one of the eight trials, and is trained already.
    assert list(dict.fromkeys(rungs)) == [(0, 2), (2, 4), (4, 8), (8, 16)]
    assert rungs.count((0, 2)) == 7 and rungs.count((2, 4)) in (3, 4)
    assert rungs.count((4, 8)) in (1, 2) and rungs.count((8, 16)) in (0, 1)
    assert [call[0].rpartition("-")[2] for call in calls[-4:]] == ["5", "5", "6", "6"]
    trials, finals, best = trials_of(search)
    assert len(trials) == 8 and trials[0].folder == "0.002-8-0" and len(trials[0].results) == 4
    assert len(finals) == 4 and len(best.results) == 4
    complete = [trial for trial in trials if len(trial.results) == 4]
    assert best.results[-1].value == max(trial.results[-1].value for trial in complete)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "the default configuration, all steps"
    assert lines[1].startswith("default: accuracy 0.8779")
    assert lines[2].startswith("trial 1, 1/8 of the steps: rate=") and "left)" in lines[2]
    assert lines[-1].startswith("best, seed 6: accuracy 0.")


def test_a_launcher_of_processes_gets_all_runs_of_a_wave_at_once(make_search):
    serial, parallel = make_search("serial"), make_search("parallel", launcher="joblib")
    serial.run()
    parallel.run()
    assert set(serial.launcher.batches) == {1}
    assert parallel.launcher.batches[:2] == [1, 3] and parallel.launcher.batches[-1] == 4
    assert trials_of(serial) == trials_of(parallel), "the proposals do not depend on the launcher"


def test_a_search_that_is_repeated_trains_nothing(make_search):
    make_search().run()
    again = make_search()
    again.run()
    assert again.launcher.calls == again.launcher.batches == []


class Killed(BaseException):
    """Ends the process, as far as the search can tell."""


def killing(original, number, after, points):
    """``original``, but the call ``number`` ends the process before or after it."""

    def call(*arguments, **named):
        points.append(0)
        if len(points) == number and not after:
            raise Killed
        result = original(*arguments, **named)
        if len(points) == number:
            raise Killed
        return result

    return call


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("name", ["create", "add_trial", "record", "record_final", "add_time"])
def test_killed_at_any_change_and_repeated_it_ends_the_same(make_search, monkeypatch, name, after):
    whole = make_search("whole", trials=5)
    whole.run()
    expected, original, number = trials_of(whole), getattr(Journal, name), 0
    while True:
        number += 1
        with monkeypatch.context() as patch:
            points: list[int] = []
            patch.setattr(Journal, name, killing(original, number, after, points))
            killed = make_search(str(number), trials=5)
            with contextlib.suppress(Killed):
                killed.run()
                break  # it has fewer changes
        again = make_search(str(number), trials=5)
        again.run()
        assert trials_of(again) == expected
    assert number > {"create": 1, "add_trial": 5, "record_final": 4}.get(name, 8)


def test_killed_before_any_run_and_in_the_middle_of_a_batch(make_search):
    whole = make_search("whole", trials=5, launcher="joblib")
    whole.run()
    expected = trials_of(whole)
    for number in range(len(whole.launcher.calls)):
        killed = make_search(str(number), trials=5, launcher="joblib")

        def die(count, number=number):
            if count == number:
                raise Killed

        killed.launcher.before = die
        with pytest.raises(Killed):
            killed.run()
        make_search(str(number), trials=5, launcher="joblib").run()
        assert trials_of(killed) == expected


def test_a_trial_that_fails_is_left_behind_and_runs_again_if_repeated(make_search, capsys):
    search = make_search()
    search.launcher.fails = lambda words: "NaN" if float(words["rate"]) > 2e-3 else None
    search.run()
    trials, _, best = trials_of(search)
    failed = [trial for trial in trials if trial.error == "NaN"]
    assert failed and all(float(trial.params["rate"]) > 2e-3 for trial in failed)
    assert best.error is None and "failed: NaN" in capsys.readouterr().err
    again = make_search()
    again.run()
    assert {call[0] for call in again.launcher.calls} >= {trial.folder for trial in failed}
    assert not [trial for trial in trials_of(again)[0] if trial.error]


def test_all_trials_fail_or_the_default_does(make_search):
    search = make_search("trials")
    search.launcher.fails = lambda words: "NaN" if "trainer.stop_at" in words else None
    with pytest.raises(SweepError, match=r"all 7 trials failed: NaN\. The default conf"):
        search.run()
    search = make_search("default")
    search.launcher.fails = lambda words: "the column text is missing"
    with pytest.raises(SweepError, match="the default configuration failed: the column text"):
        search.run()


def is_default(settings):
    return settings["rate"] == DEFAULT["rate"] and settings["rank"] == DEFAULT["rank"]


def lines_of(search):
    result = read_result(search.plan, print)
    return verdict_lines(result), list(trials_table(result).rows)


@pytest.mark.parametrize("default", [DEFAULT, None])
def test_a_default_that_never_has_a_finite_metric_is_a_failed_trial(make_search, default, capsys):
    search = make_search(default=default)
    search.launcher.is_nan = lambda settings, step: is_default(settings)
    search.run()
    assert "default: no finite accuracy" in capsys.readouterr().err
    trials, finals, best = trials_of(search)
    assert len(trials) == 8 and len(best.results) == 4 and not finals
    assert [trial.number for trial in trials if trial.error] == ([0] if default else [])
    lines, rows = lines_of(search)
    assert f"best: accuracy {best.results[-1].value:.4f}" in lines
    assert lines[-1] == (
        "better than the default? unknown: the run of the default has no finite accuracy"
    )
    [row] = [row for row in rows if "default" in row[-1]]
    assert row[3:] == ["–"] * 4 + [
        "default, failed: no evaluation up to step 16 has a finite metric"
    ]
    calls = make_search(default=default)
    calls.run()
    assert calls.launcher.calls == [], "a repeated search is complete"


@pytest.mark.parametrize("default", [DEFAULT, None])
def test_a_default_without_a_finite_metric_at_the_first_rung_is_compared(make_search, default):
    """Correlations are NaN while all predictions are equal."""
    search = make_search(default=default)
    search.launcher.is_nan = lambda settings, step: is_default(settings) and step <= 2
    search.run()
    trials, finals, best = trials_of(search)
    assert len(trials) == 8 and {seed for _, seed in finals} == {5, 6}
    assert {folder for folder, _ in finals} == {"0.002-8-0", best.folder}
    [row] = [row for row in lines_of(search)[1] if "default" in row[-1]]
    assert row[3:] == ["–", "0.7279", "0.7779", "0.8779", row[-1]] and "failed" not in row[-1]
    if default is not None:
        assert trials[0].results == [] and "up to step 2 " in trials[0].error


def test_neither_the_default_nor_a_trial_has_a_finite_metric(make_search):
    search = make_search()
    search.launcher.is_nan = lambda settings, step: True
    with pytest.raises(SweepError, match=r"all 7 trials failed: no eval.* The default conf.* too"):
        search.run()
    search = make_search("later")
    search.launcher.is_nan = lambda settings, step: is_default(settings)
    search.launcher.fails = lambda words: "full" if words.get("trainer.stop_at") == "0.25" else None
    with pytest.raises(SweepError, match="no run has a finite accuracy after all steps"):
        search.run()


def test_a_default_outside_of_the_space_is_compared_all_the_same(make_search):
    search = make_search(trials=4, default=None, rate=RATE)
    search.run()
    trials, finals, best = trials_of(search)
    assert len(trials) == 4 and best.folder == "0.002-8-0", "nothing was better"
    assert {folder for folder, _ in finals} == {best.folder}


def test_the_seed_of_the_trials_is_not_trained_twice(make_search):
    search = make_search(seeds=(0, 7))
    search.run()
    _, finals, best = trials_of(search)
    assert finals[best.folder, 0].folder == best.folder
    assert len({call[0] for call in search.launcher.calls if call[0].endswith("-7")}) == 2


def test_the_best_of_an_extended_search_is_the_best_complete_run(make_search):
    """Also if the new trials of the first rung would displace it."""
    make_search(trials=4).run()
    search = make_search(trials=12)
    search.run()
    trials, _, _ = trials_of(search)
    complete = [trial for trial in trials if len(trial.results) == 4]
    displaced = max(complete, key=lambda trial: trial.results[-1].value)
    displaced.results[0] = RungResult(0.0, None)
    journal = Journal.open(search.plan.folder, search.plan.space, search.plan.identity)
    journal.record(displaced)
    assert trials_of(search)[2].folder == displaced.folder


def test_with_fewer_trials_those_that_were_proposed_are_trained(make_search, monkeypatch):
    """After a kill in the first of the waves, whose four proposals are made together."""
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "record", killing(Journal.record, 2, True, []))
        with pytest.raises(Killed):
            make_search().run()
    fewer = make_search(trials=2)
    fewer.run()
    trials = trials_of(fewer)[0]
    assert len(trials) == 4 and all(trial.results for trial in trials)


def test_more_trials_continue_a_search(make_search):
    make_search(trials=2).run()
    make_search(trials=8).run()
    first = trials_of(make_search())[0]
    assert len(first[0].results) == 4
    more = make_search(trials=12)
    more.run()
    params = [trial.params for trial in trials_of(more)[0]]
    assert params[:8] == [trial.params for trial in first] and len(params) == 12


@pytest.fixture
def clock(monkeypatch):
    """Every run takes as many seconds as it has steps."""
    state = {"now": 0.0}
    monkeypatch.setattr("bertft.search.run.time.monotonic", lambda: state["now"])

    def attach(search):
        original = search.launcher._train

        def train(folder, log, steps, *settings):
            original(folder, log, steps, *settings)
            state["now"] += steps[-1] - steps[0] + 2

        search.launcher._train = train
        return search

    return state, attach


def test_a_time_that_is_too_short_is_reported_after_the_default(make_search, clock):
    state, attach = clock
    search = attach(make_search(seconds=30.0, seeds=(5,)))
    with pytest.raises(UsageError, match=r"30.0 s is too short: a complete run takes about 16.0 s"):
        search.run()
    assert state["now"] == 16
    attach(make_search(seconds=120.0, seeds=(5,))).run()
    assert state["now"] <= 120


@pytest.mark.parametrize("seconds", [70.0, 90.0, 200.0])
def test_a_search_keeps_to_its_time(make_search, clock, seconds):
    state, attach = clock
    search = attach(make_search(trials=None, seconds=seconds, seeds=(5,)))
    search.run()
    trials, finals, _ = trials_of(search)
    assert 0.6 * seconds < state["now"] <= seconds
    assert 2 <= len(trials) <= seconds / 2 and len(finals) in (1, 2)
