"""``bertft train``: what it leaves, what it prints where, and that it does the same again."""

from __future__ import annotations

import filecmp
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from small_runs import (
    QUICK,
    answers,
    read,
    read_lines,
    run_bertft,
    write_classes,
    write_csv,
    write_task,
)

import bertft

ROOT = Path(bertft.__file__).parents[1]


def program(*words, cwd, **options):
    """The program in a process of its own."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "bertft", *map(str, words)],
        env=env, cwd=cwd, capture_output=True, text=True, timeout=900, check=False, **options,
    )  # fmt: skip


def test_the_keys_of_metrics_json(trained):
    content = read(trained("classification", "method=lora") / "metrics.json")
    scores = {"accuracy", "f1", "f1_macro", "f1_micro", "matthews", "loss"}
    assert isinstance(content.pop("findings"), list)
    assert {name: set(value) for name, value in content.items()} == {
        "best": {"metric", "value", "step"},
        "validation": scores,
        "test": scores,
        "train": {
            "seconds", "rows_per_second", "tokens_per_second", "peak_memory_bytes", "steps", "loss"
        },
        "parameters": {"total", "trainable", "head", "method", "kept", "exported"},
    }  # fmt: skip
    assert content["train"]["steps"] == 16 and content["train"]["seconds"] > 0
    assert 50e6 < content["train"]["peak_memory_bytes"] < 50e9
    # 2 layers of query and value, 64 × 64, rank 8; a head of 64 × 2 + 2
    adapter_size = 2 * 2 * 8 * (64 + 64)
    assert content["parameters"] == {
        "total": content["parameters"]["total"], "trainable": adapter_size + 130, "head": 130,
        "method": adapter_size, "kept": adapter_size, "exported": adapter_size,
    }  # fmt: skip


def test_svd_lora_keeps_its_rank(trained):
    content = read(trained("classification", "method=svd_lora") / "metrics.json")["parameters"]
    assert content["method"] == 4 * 12 * (64 + 64 + 1)
    assert content["kept"] == 4 * 8 * (64 + 64 + 1)


def test_test_is_null_without_a_test_split(work_dir):
    data = write_task(work_dir, "classification")
    (work_dir / "test.csv").unlink()
    words = [word for word in data if not word.startswith("data.test")]
    assert run_bertft("train", *QUICK, *words, "hydra.run.dir=run").status == 0
    assert read(work_dir / "run" / "metrics.json")["test"] is None


def test_a_test_split_without_labels_is_left_alone(work_dir):
    data = write_task(work_dir, "classification")
    write_csv(work_dir / "test.csv", ("text", "label"), [("good", ""), ("bad", "")])
    assert run_bertft("train", *QUICK, *data, "hydra.run.dir=run").status == 0
    assert read(work_dir / "run" / "metrics.json")["test"] is None
    assert run_bertft("eval", "run=run", "split=test").refused


def test_what_a_run_folder_holds(trained):
    run = trained("classification", "method=lora")
    assert {path.name for path in run.iterdir()} == {
        "base", "check_rows.jsonl", "checkpoints", "config.yaml", "log.txt", "manifest.json",
        "metrics.json", "metrics.jsonl", "row_scores.npz", "timings.jsonl",
    }  # fmt: skip
    assert {path.name for path in (run / "checkpoints" / "best").iterdir()} >= {
        "adapter.safetensors", "bertft.json", "config.json", "files.json", "tokenizer.json",
        "tokenizer_config.json",
    }  # fmt: skip
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    assert config["method"]["name"] == "lora" and "hydra" not in config
    manifest = read(run / "manifest.json")
    assert manifest["labels"] == ["neg", "pos"] and manifest["total_steps"] == 16
    assert manifest["hardware"]["threads"] == 1
    assert manifest["base"]["kind"] == "run" and len(manifest["base"]["sha256"]) == 64
    files = manifest["data"]["splits"]["train"]["files"]
    assert files == [str(run.parent / "train.csv")]
    lines = (run / "check_rows.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 24 and set(json.loads(lines[0])) == {"text", "label", "line"}


def test_check_rows_are_spread_over_the_split(work_dir):
    rows = [(f"good {n}", "a" if n < 100 else "b") for n in range(200)]
    write_csv(work_dir / "sorted.csv", ("text", "label"), rows)
    data = ("data=files", "data.train=sorted.csv", "data.validation=sorted.csv")
    assert (
        run_bertft("train", "model=tiny", *data, "trainer.max_steps=1", "hydra.run.dir=run").status
        == 0
    )
    labels = [row["label"] for row in read_lines(work_dir / "run" / "check_rows.jsonl")]
    assert len(labels) == 64 and labels == sorted(labels) and labels.count("a") == 32


def test_the_same_again_is_the_same_byte_for_byte(work_dir):
    data = write_task(work_dir, "classification")
    words = ["train", *QUICK, *data, "method=svd_lora_prefix", "quiet=true"]
    for name, seed in (("one", 3), ("two", 3), ("three", 4)):
        assert run_bertft(*words, f"seed={seed}", f"hydra.run.dir={name}").status == 0
    for file in ("metrics.jsonl", "checkpoints/best/adapter.safetensors", "check_rows.jsonl"):
        assert filecmp.cmp(work_dir / "one" / file, work_dir / "two" / file, shallow=False), file
    logs = [(work_dir / name / "metrics.jsonl").read_bytes() for name in ("one", "three")]
    assert logs[0] != logs[1]
    # The rows stay while the seed varies.
    splits = [read(work_dir / name / "manifest.json")["data"] for name in ("one", "three")]
    assert splits[0] == splits[1]


def test_a_real_process_prints_to_the_right_stream(work_dir, trained):
    words = ("method=lora", "trainer.precision=fp32")
    expected = trained("classification", *words)
    data = write_task(work_dir, "classification")
    done = program("train", *QUICK, *data, *words, "hydra.run.dir=run", cwd=work_dir)
    assert done.returncode == 0, done.stderr
    assert filecmp.cmp(
        expected / "metrics.jsonl", work_dir / "run" / "metrics.jsonl", shallow=False
    )
    stages = [
        "importing torch and transformers",
        "reading data",
        "tokenizing",
        "checking rows for duplicates",
    ]
    # On a slow machine, a long stage repeats its line with the elapsed time.
    lines = [line for line in done.stderr.splitlines() if not line.endswith(" elapsed")]
    assert lines[:4] == stages and lines[4].startswith("loading model ")
    assert lines[5] == "training: 16 steps, 8 per epoch, 64 rows"
    assert lines[-2:] == ["done after 16 steps", "evaluating the test rows"]
    assert "warn" not in done.stderr.lower()
    assert "\x1b" not in done.stderr + done.stdout
    for expected_text in ("Data", "base model has 2,0", "Metrics at step", "run folder: "):
        assert expected_text in done.stdout
    assert len(re.findall("│ head and ", done.stdout)) == 1  # the cell wraps at 80 columns
    # Progress belongs to stderr.
    assert "epoch 1.00" in done.stderr and "epoch 1.00" not in done.stdout
    assert "bertft eval run\n" in done.stdout

    # What needs no process of its own: each takes seconds to import torch.
    result = run_bertft("eval", "run=run")
    assert result.status == 0 and result.err == "", result
    file = work_dir / result.out.splitlines()[-1].removeprefix("metrics: ")
    assert read(file)["validation"] == read(expected / "metrics.json")["validation"]

    result = run_bertft("merge", "run=run", "out=merged")
    assert (result.status, result.err) == (0, "") and result.out.startswith(
        "folded the updates of 4 w"
    )

    lines = '{"text": "a good film"}\n{"text": "a bad film"}\n'
    done = program("predict", "run=merged", cwd=work_dir, input=lines)
    assert done.returncode == 0
    assert done.stderr.splitlines()[0] == "importing torch and transformers"
    pattern = r"2 predictions \([\d,.]+ rows/s\); stdin: 2 rows read = 2 used"
    assert re.fullmatch(pattern, done.stderr.splitlines()[-1]), done.stderr
    content = [json.loads(line) for line in done.stdout.splitlines()]
    assert [set(answer) for answer in content] == [{"label", "score", "scores"}] * 2
    assert {path.name for path in work_dir.iterdir()} == {
        "train.csv", "validation.csv", "test.csv", "run", "merged", "outputs"
    }  # fmt: skip


def test_quiet_prints_only_the_result(work_dir):
    result = run_bertft("train", *QUICK, *write_task(work_dir, "classification"), "quiet=true")
    assert result.status == 0 and result.err == "", result
    first, *rest = result.out.splitlines()
    assert first.startswith("accuracy 0.") and " on validation, 0." in first
    assert [line for line in rest if "─" in line or "━" in line] == []
    assert any(line.startswith("run folder: ") for line in rest)


def test_the_commands_that_it_shows_work(work_dir):
    """Also from a folder whose name the shell would take apart."""
    run = work_dir / "it's mine, 好"
    words = [*QUICK, *write_task(work_dir, "classification"), "method=prefix", "quiet=true"]
    result = run_bertft("train", *words, f"hydra.run.dir={run}")
    displayed = [line.strip() for line in result.out.splitlines() if line.startswith("  bertft ")]
    (work_dir / "new.csv").write_text("text\ngood\n")
    for line in displayed:
        assert run_bertft(*shlex.split(line)[1:]).status == 0, line
    assert len(displayed) == 3 and (work_dir / "predictions.csv").is_file()
    assert (work_dir / "merged" / "prefix.safetensors").is_file()


def test_names_that_look_like_markup_stay_what_they_are(work_dir):
    """Rich would take them for styles and pictures, or fail at a tag that was never opened."""
    write_classes(work_dir / "tags.csv", 40, seed=0, names=(":heart:", "[/b]"))
    result = run_bertft(
        "train", *QUICK[:-1], "trainer.max_steps=2", "method=head", "data=files",
        f"data.train={work_dir / 'tags.csv'}", "hydra.run.dir=tags",
    )  # fmt: skip
    assert result.status == 0, result
    assert ":heart: 50.0%" in result.out and "[/b] 50.0%" in result.out
    assert "f1: positive class [/b]" in result.out


def test_the_budget_of_a_single_step_is_final(work_dir):
    """However short the run, what is evaluated and saved holds the configured rank."""
    data = write_task(work_dir, "classification")
    words = ("train", "model=tiny", *data, "method=svd_lora", "trainer.max_steps=1")
    result = run_bertft(*words, "hydra.run.dir=run")
    assert result.status == 0 and "Traceback" not in result.err, result
    content = read(work_dir / "run" / "metrics.json")
    assert content["best"]["step"] == 1
    assert content["parameters"]["kept"] == 8 * 4 * (64 + 64 + 1)


def test_weights_that_are_not_finite_are_never_written(work_dir, monkeypatch):
    """The loss of the only step is finite, and so is its gradient; the step is too large."""
    monkeypatch.setattr("bertft.training.step.lr_lambda", lambda *_: 1e39 / 1e-4)
    words = ["train", *QUICK[:-1], *write_task(work_dir, "classification"), "method=full"]
    result = run_bertft(
        *words, "trainer.max_steps=1", "trainer.precision=fp32", "hydra.run.dir=run"
    )
    assert (
        result.status == 3 and result.err.count("error: ") == 1 and "Traceback" not in result.err
    ), result
    assert "is not finite after step 1" in result.err and "trainer.learning_rate" in result.err
    assert not (work_dir / "run" / "metrics.json").exists()
    assert list((work_dir / "run" / "checkpoints").iterdir()) == []


def test_a_run_in_which_nothing_was_learnt_fails(work_dir):
    words = ["train", *QUICK[:-1], *write_task(work_dir, "classification"), "method=full"]
    words += ["trainer.max_steps=2", "trainer.precision=fp32", "loss.class_weights={neg: 1e-40}"]
    result = run_bertft(*words, "loss.class_weights.pos=1e-40", "hydra.run.dir=run")
    assert (
        result.status == 2 and result.err.count("error: ") == 1 and "Traceback" not in result.err
    ), result
    assert "nothing was learned" in result.err and "loss.class_weights" in result.err
    assert not (work_dir / "run" / "metrics.json").exists()
    again = run_bertft("train", "resume=run")
    assert again.status == 2 and "nothing was learned" in again.err


def test_a_run_in_which_no_step_was_applied_fails(work_dir, monkeypatch):
    nan = lambda self, logits, batch: logits.sum() * float("nan")  # noqa: E731
    monkeypatch.setattr("bertft.tasks.classification.ClassificationTask.loss", nan)
    words = ["train", *QUICK[:-1], *write_task(work_dir, "classification"), "trainer.max_steps=2"]
    result = run_bertft(*words, "trainer.precision=fp32", "hydra.run.dir=run")
    assert (
        result.status == 3 and result.err.count("error: ") == 1 and "Traceback" not in result.err
    ), result
    assert "none of the 2 steps was applied" in result.err
    assert not (work_dir / "run" / "metrics.json").exists()
    assert list((work_dir / "run" / "checkpoints").iterdir()) == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["trainer.learning_rate=1e39"], "trainer.learning_rate: 1e+39 is out of range"),
        (["trainer.weight_decay=1e308"], "trainer.weight_decay: 1e+308 is out of range"),
        (["method.head_learning_rate=1e9"], "method.head_learning_rate: 1000000000.0 is out of"),
        (["trainer.learning_rate=2", "trainer.weight_decay=3"], "set it to 0.5 or less"),
    ],
)
def test_rates_that_cannot_train_are_refused(work_dir, words, expected):
    result = run_bertft("train", "model=tiny", *words)
    assert result.refused and expected in result.err, result


def test_threads_of_one_run_are_not_those_of_the_next(work_dir, monkeypatch):
    data = write_task(work_dir, "classification")
    monkeypatch.setattr("bertft.pipeline.run_context._DEFAULT_THREADS", 2)
    words = ("train", "model=tiny", *data, "trainer.max_steps=1")
    before = torch.get_num_threads()
    try:
        assert run_bertft(*words, "trainer.threads=1", "hydra.run.dir=one").status == 0
        assert run_bertft(*words, "hydra.run.dir=two").status == 0
    finally:
        torch.set_num_threads(before)
    manifests = [read(work_dir / name / "manifest.json") for name in ("one", "two")]
    assert [manifest["hardware"]["threads"] for manifest in manifests] == [1, 2]


def test_chinese_from_the_first_file_to_the_last_answer(work_dir):
    rows = [
        (f"这家酒店很{'好' if n % 2 else '差'} 第{n}次", "好评" if n % 2 else "差评")
        for n in range(60)
    ]
    write_csv(work_dir / "酒店 评论.csv", ("评论", "标签"), rows)
    words = ("data=files", "data.train=酒店 评论.csv", "data.text=评论", "data.label=标签")
    result = run_bertft("train", "model=tiny", *words, "trainer.max_steps=6", "hydra.run.dir=跑")
    assert result.status == 0 and "好评" in result.out, result
    run = work_dir / "跑"
    for name in ("manifest.json", "check_rows.jsonl", "checkpoints/best/bertft.json"):
        text = (run / name).read_text(encoding="utf-8")
        assert "好评" in text and "\\u" not in text, name
    assert "label: 标签" in (run / "config.yaml").read_text(encoding="utf-8")
    for file in (run / "checkpoints/best/config.json", run / "checkpoints/last/config.json"):
        assert read(file)["id2label"] == {"0": "好评", "1": "差评"}
    assert run_bertft("eval", "run=跑").status == 0
    assert run_bertft("merge", "run=跑", "out=合并").status == 0
    card = (work_dir / "合并" / "README.md").read_text(encoding="utf-8")
    assert "好评" in card and "合并" in card and "酒店 评论.csv" in card
    for folder in ("跑", "合并"):
        more = ["text=评论"] if folder == "合并" else []
        result = run_bertft("predict", f"run={folder}", *more, stdin='{"评论": "很好"}\n')
        (answer,) = answers(result)
        assert answer["label"] in ("好评", "差评") and "评" in result.out
        assert list(answer["scores"]) == ["好评", "差评"]
