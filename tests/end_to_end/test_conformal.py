"""Prediction sets from training to eval, predict, merge and export."""

from __future__ import annotations

import json

import numpy as np
import pytest
from small_runs import QUICK, answers, read, run_bertft, write_task

from bertft.data.halves import first_half
from bertft.pipeline.open_model import open_model
from bertft.pipeline.recorded_rows import load_split

CONFORMAL = ("method=lora", "trainer.learning_rate=1e-2", "calibrate=conformal", "coverage=0.8")


@pytest.fixture
def run(trained):
    return trained("classification", *CONFORMAL)


def test_the_sets_of_a_run_are_those_of_its_calibration_half(run, work_dir):
    content = read(run / "metrics.json")
    sets = content["calibration"]["conformal"]
    assert (sets["coverage"], sets["rows"], sets["seed"]) == (0.8, 12, 0)
    rows = answers(run_bertft("predict", f"run={run}", f"input={run.parent / 'validation.csv'}"))
    lines = (run.parent / "validation.csv").read_text(encoding="utf-8").splitlines()[1:]
    labels = [line.rpartition(",")[2] for line in lines]
    truth = np.array([row["scores"][label] for row, label in zip(rows, labels, strict=True)])
    is_calibration = first_half(24, 0)
    # ⌈(12 + 1) · 0.8⌉ = 11 of the 12 scores
    assert sets["quantile"] == pytest.approx(np.sort(1 - truth[is_calibration])[10], abs=1e-6)
    for row in rows:
        expected = [name for name, p in row["scores"].items() if 1 - p <= sets["quantile"]]
        assert set(row["prediction_set"]) == set(expected)
        assert row["abstain"] == (len(expected) != 1)
    reported = [
        (label in row["prediction_set"], len(row["prediction_set"]))
        for row, label, calibrates in zip(rows, labels, is_calibration, strict=True)
        if not calibrates
    ]
    coverage, size = np.mean(reported, 0)
    assert content["validation"]["coverage"] == coverage
    assert content["validation"]["mean_set_size"] == size
    assert content["calibration"]["observed"]["coverage"] == coverage
    assert set(content["test"]) == set(content["validation"])
    assert run_bertft("eval", f"run={run}", "report=false", "hydra.run.dir=e").status == 0
    assert read(work_dir / "e/metrics.json") == {"validation": content["validation"]}
    assert run_bertft("verify", f"run={run}").status == 0


def test_merged_folders_and_adapters_have_the_sets(run, work_dir):
    text = "text=[the film was good,the room was bad]"
    before = answers(run_bertft("predict", f"run={run}", text))
    assert {"prediction_set", "abstain"} <= set(before[0])
    for command, name in (("merge", "merged"), ("export", "adapter")):
        assert run_bertft(command, f"run={run}", f"out={name}").status == 0
        after = answers(run_bertft("predict", f"run={name}", text))
        assert [row["prediction_set"] for row in after] == [row["prediction_set"] for row in before]
        assert read(work_dir / name / "bertft.json")["conformal"]["coverage"] == 0.8
        card = (work_dir / name / "README.md").read_text(encoding="utf-8")
        assert "with a probability of at least 0.8" in card
    # The rows that calibrated are known to the folder: eval reports the other half.
    merged = open_model("merged", device="cpu", data=open_model(str(run)).data)
    table = merged.build_features("validation", load_split(merged, "validation"))
    expected = read(run / "metrics.json")["validation"]
    assert merged.evaluate(table)["coverage"] == expected["coverage"]
    info = read(work_dir / "merged/bertft.json")
    info["conformal"]["quantile"] = "0.5"
    (work_dir / "merged/bertft.json").write_text(json.dumps(info), encoding="utf-8")
    result = run_bertft("predict", "run=merged", text)
    assert result.refused and "'quantile'" in result.err and "bertft.json" in result.err, result


def test_what_has_no_sets(tmp_path):
    data = write_task(tmp_path, "classification")
    conformal = (*QUICK, *data, "method=lora", "calibrate=conformal", "hydra.run.dir=new")
    for words, message in (
        ((*conformal, "coverage=0.95"), "needs at least 19 calibration rows"),
        ((*conformal, "coverage=1.5"), "coverage"),
        ((*QUICK, *data, "coverage=0.8", "hydra.run.dir=new"), "Add calibrate=conformal"),
        (
            ("data=sample_ner", "calibrate=conformal", "hydra.run.dir=new"),
            "calibrate=conformal: is not supported by data.task=token_classification",
        ),
    ):
        result = run_bertft("train", *words)
        assert result.refused and message in result.err, result
        assert not (tmp_path / "new/manifest.json").exists()
