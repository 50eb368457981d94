from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from bertft.report.result_rows import JobResult, group_results
from bertft.report.sweep import print_summary, read_jobs, write_summary


def job(value=None, error=None, metric="accuracy", parameters=7, **settings):
    metrics = None
    if value is not None:
        metrics = {
            "best": {"metric": metric, "value": value, "step": 1},
            "train": {"seconds": 1.0, "peak_memory_bytes": None},
            "parameters": {"method": parameters},
        }
    names = {key.replace("__", "."): str(value) for key, value in settings.items()}
    return JobResult(Path("nowhere"), names, error, metrics)


def test_of_equal_results_the_smaller_model_is_best():
    jobs = [job(0.5, parameters=9, method="full"), job(0.5, parameters=3, method="lora")]
    assert [row.best for row in group_results(jobs)] == [False, True]
    assert [row.best for row in group_results(jobs[::-1])] == [True, False]


def test_seeds_become_one_row_with_the_sample_deviation():
    (row,) = group_results([job(0.1, seed=0), job(0.2, seed=1), job(0.6, seed=2)])
    assert row.mean == pytest.approx(0.3)
    assert row.std == pytest.approx(0.2645751)
    assert (row.runs, row.failed, row.best) == (3, 0, True)


def test_a_sweep_of_seeds_has_no_column_for_settings_that_are_equal(tmp_path, capsys):
    jobs = [job(0.1, seed=0, data__train="a.csv"), job(error="no", seed=1, data__train="a.csv")]
    (row,) = results = group_results(jobs)
    assert row.settings == {} and (row.runs, row.failed) == (1, 1)
    print_summary(results)
    printed = capsys.readouterr().out
    assert "data.train" not in printed and "\nfailed: no\n" in printed
    write_summary(tmp_path, results)
    assert (tmp_path / "summary.csv").read_text().startswith("metric,")


def test_one_seed_has_no_deviation():
    (row,) = group_results([job(0.1, seed=0)])
    assert row.std is None


def test_columns_are_the_settings_that_differ():
    jobs = [job(0.1, model="tiny", method="lora"), job(0.2, model="tiny", method="prefix")]
    assert [row.settings for row in group_results(jobs)] == [
        {"method": "lora"},
        {"method": "prefix"},
    ]


def test_lower_is_better_where_it_is():
    jobs = [job(0.1, metric="loss", a=1), job(0.2, metric="loss", a=2)]
    assert [row.best for row in group_results(jobs, ["loss"])] == [True, False]
    assert [row.best for row in group_results(jobs, [])] == [False, True]


def test_metrics_are_not_compared_with_each_other():
    jobs = [job(0.9, data="sst2"), job(0.1, data="stsb", metric="pearson")]
    assert [row.best for row in group_results(jobs)] == [True, True]


def test_negative_scores_are_compared():
    jobs = [job(-0.9, a=1), job(-0.1, a=2)]
    assert [row.best for row in group_results(jobs)] == [False, True]


def test_unknown_memory_is_none():
    (row,) = group_results([job(0.1)])
    assert row.peak_memory_bytes is None


def test_numbers_are_sorted_by_value(tmp_path):
    for rank in ("16", "2", "full", "8"):
        folder = tmp_path / rank
        folder.mkdir()
        (folder / "job.json").write_text(
            json.dumps({"overrides": {"rank": rank}, "error": "x"}), encoding="utf-8"
        )
    assert [job_result.settings["rank"] for job_result in read_jobs(tmp_path)] == [
        "2",
        "8",
        "16",
        "full",
    ]


def test_jobs_on_different_commits_of_a_hub_model_are_distinguished(tmp_path):
    """The name on the Hub is the same, but the runs have no common mean."""
    for seed, revision in enumerate(("a" * 40, "a" * 40, "b" * 40)):
        folder = tmp_path / f"s{seed}"
        folder.mkdir()
        content = {"overrides": {"model": "x", "seed": str(seed)}, "error": "x"}
        (folder / "job.json").write_text(json.dumps(content), encoding="utf-8")
        base = {"kind": "hub", "load": "org/model", "revision": revision}
        (folder / "manifest.json").write_text(json.dumps({"base": base}), encoding="utf-8")
    actual = [job_result.settings.get("model.revision") for job_result in read_jobs(tmp_path)]
    assert actual == ["a" * 8, "a" * 8, "b" * 8]
    for seed, manifest in enumerate(('{"base": []}', "{", json.dumps({"base": {"kind": "run"}}))):
        (tmp_path / f"s{seed}" / "manifest.json").write_text(manifest, encoding="utf-8")
    assert all("model.revision" not in job_result.settings for job_result in read_jobs(tmp_path))


def test_files_can_contain_any_text(tmp_path):
    error = 'a | b, "c"\nd'
    write_summary(
        tmp_path, group_results([job(error=error, 路="数据/a,b.csv"), job(0.5, 路="c.csv")])
    )
    with open(tmp_path / "summary.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert (rows[0]["路"], rows[0]["error"]) == ("数据/a,b.csv", error)
    page = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert "without the task head" in page
    table = [line for line in page.splitlines() if line.startswith("|")]
    assert len(table) == 4  # the newline of the error broke no row
    assert "a \\| b" in table[2]


def test_a_table_is_not_written_through_a_link(tmp_path):
    (tmp_path / "theirs").write_text("mine")
    for name in ("summary.csv", "summary.md"):
        (tmp_path / name).symlink_to(tmp_path / "theirs")
    write_summary(tmp_path, group_results([job(0.1, a=1)]))
    assert (tmp_path / "theirs").read_text() == "mine"
    assert (tmp_path / "summary.csv").read_bytes().startswith(b"metric,")


def test_the_best_run_of_a_function_whose_lowest_value_is_best(capsys):
    jobs = [
        job(value, metric="costs:total", method="lora", seed=seed)
        for seed, value in enumerate([0.5, 0.25])
    ]
    for result in jobs:
        result.metrics["best"]["higher_is_better"] = False
    print_summary(group_results(jobs))
    assert "best run (seed 1: 0.2500)" in capsys.readouterr().out
