"""The leaderboard: which runs it trains, its comparisons, its page, and peft's layers in a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.leaderboard.entries import (
    BUDGETS,
    METHODS,
    RATE_FACTORS,
    RATE_LIMITS,
    TASKS,
    Method,
    Run,
    Task,
)
from benchmarks.leaderboard.page import difference, write_page
from benchmarks.leaderboard.results import Results, RunFailed, pending_runs, train
from benchmarks.leaderboard.stability import cases, stability_section

SST2, LORA = TASKS["sst2"], METHODS["lora, all linear"]
SVD, BITFIT = METHODS["svd_lora, all linear"], METHODS["bitfit"]
SMALL, LARGE = BUDGETS


def measured(value: float, **changes: object) -> dict[str, object]:
    return {"value": value, "rate": 2e-3, "parameters": {"kept": 10_000}, "cpu_seconds": 9.0,
            "precision": "fp32", "versions": {"torch": "2.13.0"}} | changes  # fmt: skip


def test_the_size_of_a_method_is_the_closest_to_the_budget():
    assert METHODS["lora, query and value"].at(82_944)[-1] == "method.rank=9"
    assert SVD.at(82_944)[-1] == "method.rank=2" and SVD.at(248_832)[-1] == "method.rank=6"
    assert BITFIT.at(82_944) == ["method=bitfit"]


def test_the_trials_of_a_cell_select_its_rate_and_every_method_gets_its_first_seed_first(tmp_path):
    results = Results(tmp_path / "results.jsonl")
    order = []
    for run in pending_runs(results, [SST2], [LORA, SVD], [SMALL], [0, 1]):
        order.append(run)
        # The rate with factor 2 is the best of the trials, so that 4 is tried too.
        results.add(run, measured(-abs(run.rate_factor - 2) if run.tuning else 0.5))
    assert [run.tuning for run in order] == [True, True, True, True, False] * 2 + [False, False]
    assert [run.rate_factor for run in order[:4]] == [0.5, 1, 2, 4]
    final = [(run.method.name, run.seed, run.rate_factor) for run in order if not run.tuning]
    names = [LORA.name, SVD.name]
    assert final == [(name, seed, 2.0) for seed in (0, 1) for name in names]
    again = Results(tmp_path / "results.jsonl")
    assert not list(pending_runs(again, [SST2], [LORA, SVD], [SMALL], [0, 1]))


@pytest.mark.parametrize(
    ("best", "factors"),
    [
        (1, [0.5, 1, 2]),
        (1 / 8, [0.5, 1, 2, 1 / 4, 1 / 8, 1 / 16]),
        (0, [0.5, 1, 2, 1 / 4, 1 / 8, 1 / 16]),  # the limit
        (100, [0.5, 1, 2, 4, 8, 16]),
    ],
)
def test_trials_continue_while_the_best_rate_is_at_an_end(tmp_path, best, factors):
    results = Results(tmp_path / "results.jsonl")
    tried = []
    for run in pending_runs(results, [SST2], [LORA], [SMALL], [0]):
        results.add(run, measured(-abs(run.rate_factor - best)))
        tried += [run.rate_factor] * run.tuning
    assert tried == factors


def test_a_method_without_a_size_is_trained_once_for_all_budgets(tmp_path):
    results = Results(tmp_path / "results.jsonl")
    runs = []
    for run in pending_runs(results, [SST2], [BITFIT], [SMALL, LARGE], [0]):
        runs.append(run)
        results.add(run, measured(-abs(run.rate_factor - 1)))
    assert len(runs) == len(RATE_FACTORS) + 1


def test_a_trial_does_not_see_the_dev_rows(tmp_path):
    trial = Run(SST2, LORA, SMALL, 1.0, 1000, tuning=True).words(tmp_path)
    assert "data.validation_fraction=0.2" in trial
    assert not any(word.startswith("data.validation=") for word in trial)


def test_the_difference_is_paired_over_the_common_seeds():
    from scipy import stats

    ours, theirs = {0: 0.80, 1: 0.83, 2: 0.84, 3: 0.1}, {0: 0.79, 1: 0.81, 2: 0.85, 4: 0.9}
    mean, half = difference(ours, theirs)
    interval = stats.ttest_rel([0.80, 0.83, 0.84], [0.79, 0.81, 0.85]).confidence_interval(0.95)
    assert (mean - half, mean + half) == pytest.approx(tuple(interval), abs=1e-12)
    assert difference({0: 1.0}, {0: 0.5}) is None


def test_the_page_has_the_best_method_first_and_no_trials(tmp_path):
    (tmp_path / "images").mkdir()
    results = Results(tmp_path / "results.jsonl")
    for seed in (0, 1, 2):
        results.add(Run(SST2, LORA, SMALL, 1.0, seed, False), measured(0.80 + seed / 100))
        results.add(Run(SST2, SVD, SMALL, 0.5, seed, False), measured(0.10))  # not selected
        results.add(Run(SST2, SVD, SMALL, 1.0, seed, False), measured(0.82 + seed / 100))
    results.add(Run(SST2, SVD, SMALL, 1.0, 1000, True), measured(0.99))
    results.add(Run(SST2, SVD, SMALL, 0.5, 1000, True), measured(0.98))
    results.add(Run(SST2, SVD, SMALL, 2.0, 1000, True), measured(0.99))  # the lowest is selected
    write_page(results.records, tmp_path)
    page = (tmp_path / "leaderboard.md").read_text(encoding="utf-8")
    assert page.startswith("# Leaderboard\n") and "0.99" not in page
    first, second = (line for line in page.splitlines() if "| 10,000 |" in line)
    assert first.startswith("| svd_lora, all linear | 10,000 | 0.002 | 0.8300 ± 0.0100 | 3 |")
    assert "+0.0200 ± 0.0000" in first and second.startswith("| lora, all linear |")
    assert (tmp_path / "images" / "leaderboard-dark.svg").stat().st_size > 1000


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Task:
    folder = tmp_path_factory.mktemp("rows")
    rows = (f"{'good' if n % 2 else 'bad'} film {n},{n % 2}" for n in range(48))
    (folder / "rows.csv").write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    file = str(folder / "rows.csv")
    return Task("sample", "accuracy", ("model=tiny", "trainer.epochs=3"), file, file)


@pytest.mark.slow
def test_adalora_of_peft_prunes_to_its_budget_in_the_loop_of_bertft(sample, tmp_path):
    settings = (
        "method=peft_adalora", "method.peft_layers.targets=all_linear", "method.peft_layers.rank=2",
        "trainer.batch_size=4",
    )  # fmt: skip
    method = Method("peft adalora", settings, "method.peft_layers.learning_rate", 2e-3)
    found = train(Run(sample, method, SMALL, 1.0, 0, False), Path(), 1, "fp32")
    assert found["steps"] == 36 and 0 <= found["value"] <= 1
    assert found["precision"] == "fp32" and {"bertft", "torch"} <= found["versions"].keys()
    parameters = found["parameters"]
    method_parameters = parameters["trainable"] - parameters["head"]
    # 3 triplets per layer at the start, 2 on average at the end.
    assert parameters["kept"] == pytest.approx(method_parameters * 2 / 3, rel=0.2)


def test_a_run_that_fails_reports_its_command_and_error(sample, tmp_path):
    with pytest.raises(RunFailed, match="status 2"):
        train(Run(sample, Method("x", ("method=lorra",), "method.rank", 1.0), SMALL, 1.0, 0, False),
              tmp_path, 1, "fp32")  # fmt: skip


def test_recorded_results_belong_to_known_entries():
    file = Path(__file__).parents[2] / "benchmarks" / "leaderboard" / "results.jsonl"
    if not file.exists():
        pytest.skip("nothing is recorded")
    for line in file.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        assert record["task"] in TASKS and record["method"] in METHODS
        assert RATE_LIMITS[0] <= record["rate_factor"] <= RATE_LIMITS[1]


def test_the_stability_table_counts_collapsed_runs():
    names = [case.name for case in cases()]
    assert len(names) == 67 and "lora, all linear" in names
    run = {"name": "lora, all linear", "rank": 8, "seed": 0, "last_value": 0.8, "events": ["step"]}
    records = [run, run | {"last_value": 0.509}, run | {"events": ["collapsed"]}]
    section = stability_section(records)
    assert "2 of 3 runs collapsed" in section
    assert "| lora, all linear | 8 | 2 of 3 | 0.703 ± 0.168 | 0.509 |" in section
    assert stability_section([]) == ""
