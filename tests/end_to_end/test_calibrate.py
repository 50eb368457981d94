"""Losses, temperature and thresholds from train to eval, merge, export, predict and a resume."""

from __future__ import annotations

import json
import shutil
import signal

import numpy as np
import pytest
from small_runs import QUICK, answers, crash, outcome, read, run_bertft, write_classes, write_task
from transformers import pipeline

from bertft.export.equivalence import score_rows
from bertft.pipeline.check_rows import read_check_rows
from bertft.pipeline.open_model import open_model
from bertft.pipeline.teacher import teacher_digest

FITTED = (
    "method=lora", "trainer.epochs=4", "trainer.learning_rate=1e-2", "loss.label_smoothing=0.2",
    "loss.focal_gamma=1", "calibrate=temperature", "tune_threshold=true",
)  # fmt: skip
TASKS = {
    "classification": ("classification", *FITTED, "data.metric=f1", "loss.class_weights=balanced"),
    "multi_label": ("multi_label", *FITTED),
}


@pytest.fixture(params=TASKS)
def run(request, trained):
    return trained(*TASKS[request.param])


def rows_of(run, split="test"):
    return run.parent / f"{split}.csv"


def scores_of(actual):
    return np.array([list(answer["scores"].values()) for answer in actual])


def test_eval_gives_what_training_reported(run, work_dir):
    content = read(run / "metrics.json")
    fitted = content["calibration"]
    assert list(content) == [
        "best", "validation", "test", "train", "parameters", "findings", "calibration",
    ]  # fmt: skip
    assert fitted["step"] == content["best"]["step"] and fitted["rows"] == 24
    assert fitted["temperature"] > 0 and fitted["bins"] == 15
    assert fitted["loss"]["after"] < fitted["loss"]["before"]
    assert fitted["tuned"]["after"] >= fitted["tuned"]["before"]
    assert content["best"]["value"] == content["validation"][content["best"]["metric"]]
    assert fitted["tuned"]["after"] == content["validation"][fitted["tuned"]["metric"]]
    assert fitted["loss"]["after"] == pytest.approx(content["validation"]["loss"], rel=1e-9)
    assert run_bertft("eval", f"run={run}", "hydra.run.dir=e").status == 0
    assert read(work_dir / "e/metrics.json") == {"validation": content["validation"]}
    result = run_bertft("eval", f"run={run}", "split=test", "hydra.run.dir=t")
    assert result.status == 0 and read(work_dir / "t/metrics.json") == {"test": content["test"]}
    assert run_bertft("verify", f"run={run}").status == 0


def test_nothing_of_it_is_in_the_checkpoint(run, trained, work_dir):
    """Another checkpoint, and a run without calibration, predict as they were trained."""
    task = "multi_label" if "multi_label" in str(run.parent) else "classification"
    words = [word for word in TASKS[task] if "calibrate" not in word and "tune_" not in word]
    plain = trained(*words)
    for file in ("checkpoints/best/adapter.safetensors", "metrics.jsonl"):
        assert (run / file).read_bytes() == (plain / file).read_bytes()
    fitted = read(run / "metrics.json")["calibration"]
    raw, now = (
        scores_of(answers(run_bertft("predict", f"run={folder}", f"input={rows_of(run)}")))
        for folder in (plain, run)
    )
    if task == "multi_label":
        logits = np.log(raw) - np.log1p(-raw)
        expected = 1 / (1 + np.exp(-logits / fitted["temperature"]))
    else:
        powers = raw ** (1 / fitted["temperature"])
        expected = powers / powers.sum(1, keepdims=True)
    np.testing.assert_allclose(now, expected, atol=1e-6)
    assert np.abs(now - raw).max() > 1e-3
    other = next(
        int(path.name[5:])
        for path in sorted((run / "checkpoints").glob("step-*"))
        if int(path.name[5:]) != fitted["step"]
    )
    same = [
        answers(
            run_bertft("predict", f"run={folder}", f"checkpoint={other}", f"input={rows_of(run)}")
        )
        for folder in (plain, run)
    ]
    assert same[0] == same[1]


def test_answers_follow_the_threshold(run):
    threshold = read(run / "metrics.json")["calibration"]["threshold"]
    for answer in answers(
        run_bertft("predict", f"run={run}", f"input={rows_of(run, 'validation')}")
    ):
        if isinstance(threshold, dict):
            over = [name for name, score in answer["scores"].items() if score >= threshold[name]]
            assert answer["labels"] == over
        else:
            assert answer["label"] == ("pos" if answer["scores"]["pos"] >= threshold else "neg")
            assert answer["score"] == answer["scores"][answer["label"]]


def test_a_merged_folder_and_an_adapter_give_the_same_answers(run, work_dir):
    fitted = read(run / "metrics.json")["calibration"]
    assert run_bertft("merge", f"run={run}", "out=merged").status == 0
    assert run_bertft("export", f"run={run}", "out=adapter").status == 0
    assert read(work_dir / "merged/config.json")["decision_threshold"] == fitted["threshold"]
    assert read(work_dir / "adapter/bertft.json")["threshold"] == fitted["threshold"]
    rows = f"input={rows_of(run)}"
    mine, *others = (
        answers(run_bertft("predict", f"run={folder}", rows, "precision=fp32"))
        for folder in (run, "merged", "adapter")
    )
    kind = "labels" if "labels" in mine[0] else "label"
    for actual in others:
        np.testing.assert_allclose(scores_of(actual), scores_of(mine), atol=1e-5)
        assert [answer[kind] for answer in actual] == [answer[kind] for answer in mine]
    result = run_bertft("eval", f"run={run}", "precision=fp32", "hydra.run.dir=own")
    assert result.status == 0, result
    result = run_bertft(
        "eval", "run=merged", "data=files", f"data.validation={rows_of(run, 'validation')}",
        *(["data.task=multi_label"] * (kind == "labels")), "hydra.run.dir=e",
    )  # fmt: skip
    assert result.status == 0, result
    content = read(work_dir / "own/metrics.json")["validation"]
    assert read(work_dir / "e/metrics.json")["validation"] == pytest.approx(content, abs=1e-5)
    ask = pipeline("text-classification", model=str(work_dir / "merged"), top_k=None)
    text = rows_of(run).read_text().splitlines()[1].rpartition(",")[0].strip('"')
    plain = {prediction["label"]: prediction["score"] for prediction in ask([text])[0]}
    assert plain == pytest.approx(mine[0]["scores"], abs=1e-5)
    for folder in ("merged", "adapter"):
        card = (work_dir / folder / "README.md").read_text(encoding="utf-8")
        assert "divided by a temperature of" in card
        decided = (
            "own probability threshold"
            if kind == "labels"
            else "predicted if its probability is at least"
        )
        assert decided in card
        assert "A plain transformers pipeline does not apply the threshold" in card


def test_as_a_teacher_it_is_another_one(trained):
    """Of the same weights: its answers are divided, and so may not be taken from the cache."""
    words = TASKS["classification"]
    run, plain = trained(*words), trained(*(w for w in words if w not in FITTED[-2:]))
    fitted, raw = (
        open_model(str(folder), precision="fp32", device="cpu") for folder in (run, plain)
    )
    assert teacher_digest(fitted) != teacher_digest(raw)
    rows = read_check_rows(run / "check_rows.jsonl")
    divided, before = score_rows(fitted, rows)[0], score_rows(raw, rows)[0]
    temperature = fitted.calibration["temperature"]
    np.testing.assert_array_equal(divided, before / np.float32(temperature))
    fitted.task_model.fold()
    assert fitted.task_model.runner.temperature is None
    np.testing.assert_allclose(score_rows(fitted, rows)[0], divided, atol=1e-5)


def test_a_run_on_a_merged_folder_does_not_inherit_its_threshold(trained, work_dir):
    run = trained(*TASKS["classification"])
    assert run_bertft("merge", f"run={run}", "out=merged").status == 0
    write_classes(work_dir / "a.csv", 16, 0)
    result = run_bertft(
        "train", "data=files", "data.train=a.csv", "data.validation=a.csv", "model.path=merged",
        "trainer.max_steps=1", "method=head", "hydra.run.dir=next",
    )  # fmt: skip
    assert result.status == 0, result
    assert run_bertft("merge", "run=next", "out=plain").status == 0
    assert "decision_threshold" not in read(work_dir / "plain/config.json")


@pytest.mark.parametrize("wrong", [1.5, "0.3", {"neg": 0.3, "pos": 0.4}, {"pos": 2}, {}])
def test_a_threshold_that_cannot_be_is_reported(trained, work_dir, wrong):
    assert run_bertft("merge", f"run={trained(*TASKS['classification'])}", "out=merged").status == 0
    config = read(work_dir / "merged/config.json")
    (work_dir / "merged/config.json").write_text(
        json.dumps({**config, "decision_threshold": wrong})
    )
    result = run_bertft("predict", "run=merged", stdin='{"text": "good"}\n')
    assert result.refused and "threshold" in result.err, result


@pytest.mark.parametrize(
    "change", [{"temperature": -1.0}, {"temperature": "2"}, {"threshold": 3.0}, {"step": "8"}]
)
def test_a_calibration_that_cannot_be_is_named(copied, change):
    run = copied(*TASKS["classification"])
    content = read(run / "metrics.json")
    content["calibration"] |= change
    (run / "metrics.json").write_text(json.dumps(content))
    result = run_bertft("verify", f"run={run}")
    assert result.status == 2 and "DAMAGED  metrics.json" in result.out, result
    assert "invalid value for 'calibration'" in result.out
    assert run_bertft("eval", f"run={run}").refused


@pytest.mark.long
def test_interrupted_and_resumed_it_ends_the_same(work_dir):
    """Killed in a save, and while the result is written: a resumed run finds what was fitted."""
    words = ["train", *QUICK, *write_task(work_dir, "classification"), "quiet=true"]
    words += [*FITTED[2:], "data.metric=f1"]
    (whole,) = crash([([*words, f"hydra.run.dir={work_dir / 'whole'}"], None)])
    jobs = []
    for point in ("write adapter.safetensors", "create metrics.json"):
        run = work_dir / point.split()[1]
        number = 1 + next(n for n, line in enumerate(whole["points"]) if line.startswith(point))
        jobs.append(([*words, f"hydra.run.dir={run}"], f"SIGKILL:{number}"))
        jobs.append((["train", f"resume={run}", "quiet=true"], None))
    content = crash(jobs)
    assert [job["status"] for job in content] == [-signal.SIGKILL, 0] * 2, content
    expected = read(work_dir / "whole/metrics.json")["calibration"]
    for name in ("adapter.safetensors", "metrics.json"):
        assert outcome(work_dir / name) == outcome(work_dir / "whole")
        assert read(work_dir / name / "metrics.json")["calibration"] == expected


def test_a_run_that_resumes_drops_what_was_fitted_until_its_end(trained, work_dir):
    run = shutil.copytree(trained(*TASKS["classification"]), work_dir / "run", symlinks=True)
    before = read(run / "metrics.json")
    assert run_bertft("train", f"resume={run}", "trainer.epochs=5", "quiet=true").status == 0
    after = read(run / "metrics.json")
    assert after["train"]["steps"] > before["train"]["steps"]
    assert after["calibration"]["step"] == after["best"]["step"]
    (run / "metrics.json").unlink()
    result = run_bertft("predict", f"run={run}", stdin='{"text": "good"}\n')
    assert result.status == 0 and "is not finished: the model is not calibrated yet" in result.err


def test_what_shows_only_with_the_rows_is_reported_before_any_work(work_dir):
    write_classes(work_dir / "a.csv", 12, 0, ("one", "two"))
    words = ("train", "data=files", "data.train=a.csv", "model=tiny", "hydra.run.dir=run")
    result = run_bertft(*words, "loss.class_weights={tow:2}")
    assert result.refused and "unknown class 'tow'. Did you mean 'two'?" in result.err
    (work_dir / "a.csv").write_text("text,label\n" + "".join(f"t {n},{n % 3}\n" for n in range(12)))
    result = run_bertft(*words, "tune_threshold=true", "loss.class_weights=[1,2]")
    assert result.refused and "2 problems" in result.err, result
    assert (
        "is not supported with 3 classes" in result.err and "2 weights for 3 classes" in result.err
    )
    result = run_bertft(*words, "data.labels=[0,1,2,3]", "loss.class_weights=balanced")
    assert result.refused and "no training row has 3" in result.err, result
    assert list(work_dir.glob("run/*")) == []
