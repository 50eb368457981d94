"""A Python function as a metric: computed, recorded, and named by the command line alone."""

from __future__ import annotations

import pytest
import yaml
from small_runs import QUICK, read, run_bertft, write_classes

# Appends a line to a file when it is imported, which shows whether it was.
MODULE = """
import pathlib
with open(pathlib.Path(__file__).with_name("imported"), "a") as file:
    file.write("x")

def cost(labels, scores):
    return float(((scores > 0.5) != (labels == 1)).mean())

def names(labels, scores):
    return "a name"
"""
METRIC = "data.metric=metric_of_a_test:cost"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run with the metric; the mark of the import is removed."""
    import sys

    monkeypatch.chdir(tmp_path)
    (tmp_path / "metric_of_a_test.py").write_text(MODULE)
    write_classes(tmp_path / "train.csv", 48, 1)
    write_classes(tmp_path / "validation.csv", 16, 2)
    words = ["data.train=train.csv", "data.validation=validation.csv", "trainer.max_steps=4"]
    words += [word for word in QUICK if not word.startswith("trainer.epochs")]

    def train(*more):
        sys.modules.pop("metric_of_a_test", None)
        return run_bertft("train", *words, *more)

    result = train(METRIC, "data.metric_direction=lower", "hydra.run.dir=run")
    assert result.status == 0, result
    (tmp_path / "imported").unlink()
    sys.modules.pop("metric_of_a_test", None)
    return train


def test_it_selects_and_is_recorded(run, tmp_path):
    metrics = read(tmp_path / "run" / "metrics.json")
    best = metrics["best"]
    assert best["metric"] == "metric_of_a_test:cost" and best["higher_is_better"] is False
    value = metrics["validation"]["metric_of_a_test:cost"]
    assert best["value"] == value == pytest.approx(1 - metrics["validation"]["accuracy"])


def test_eval_needs_the_name_again(run, tmp_path):
    result = run_bertft("eval", "run=run", "hydra.run.dir=out")
    assert result.refused and f"add {METRIC}" in result.err and not (tmp_path / "imported").exists()
    result = run_bertft("eval", "run=run", METRIC, "hydra.run.dir=out")
    assert result.status == 0 and (tmp_path / "imported").exists(), result
    recorded = read(tmp_path / "run" / "metrics.json")["validation"]
    assert read(tmp_path / "out" / "metrics.json")["validation"] == pytest.approx(recorded)
    other = run_bertft("eval", "run=run", "data.metric=accuracy", "hydra.run.dir=out2")
    assert other.status == 0, other


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "run=run", "input=validation.csv", "output=answers.jsonl"],
        ["merge", "run=run", "out=merged"],
        ["report", "run=run"],
        ["verify", "run=run"],
    ],
)
def test_other_commands_work_and_do_not_import(run, tmp_path, words):
    result = run_bertft(*words)
    assert result.status == 0 and not (tmp_path / "imported").exists(), result


def test_a_file_cannot_name_code(run, tmp_path):
    """The configuration of somebody else's run, as config=, resume= or a preset."""
    result = run_bertft("train", "config=run/config.yaml", "hydra.run.dir=second")
    assert result.refused and f"add {METRIC} to the command" in result.err, result
    result = run_bertft("train", "resume=run", "trainer.max_steps=6")
    assert result.refused and f"add {METRIC}" in result.err, result
    result = run_bertft("train", "config=run/config.yaml", "resume=run", "trainer.max_steps=6")
    assert result.status == 2 and f"add {METRIC}" in result.err, result
    presets = tmp_path / "presets" / "data"
    presets.mkdir(parents=True)
    preset = {"defaults": ["files", "_self_"], "metric": "metric_of_a_test:cost",
              "metric_direction": "lower", "name": "mine"}  # fmt: skip
    (presets / "mine.yaml").write_text(yaml.safe_dump(preset))
    result = run("data=mine", "--config-dir", "presets", "hydra.run.dir=third")
    assert result.status == 2 and f"add {METRIC} to the command" in result.err, result
    assert not (tmp_path / "imported").exists()
    result = run_bertft("train", "resume=run", "trainer.max_steps=6", METRIC)
    assert result.status == 0, result


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([METRIC], "data.metric_direction: is missing"),
        ([METRIC, "data.metric_direction=up"], "data.metric_direction"),
        (["data.metric_direction=lower"], "data.metric_direction: is not supported"),
        (["data.metric=a:b:c", "data.metric_direction=lower"], "is not the name of a function"),
        (
            ["data.metric=no_module_x:f", "data.metric_direction=lower"],
            "no_module_x cannot be imported",
        ),
        (
            ["data.metric=metric_of_a_test:names", "data.metric_direction=lower"],
            "returns a str, not a number",
        ),
        (
            ["data.metric=sklearn.metrics:accuracy_score", "data.metric_direction=higher"],
            "raises ValueError",
        ),
    ],
)
def test_errors_are_one_line_before_training(run, tmp_path, words, message):
    result = run(*words, "hydra.run.dir=other")
    assert result.status == 2 and message in result.err and "Traceback" not in result.err, result
    assert result.err.count("error: ") == 1 and "step 1" not in result.out
