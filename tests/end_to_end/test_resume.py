"""Runs that were cut off end as if they had not been: SIGKILL, SIGTERM, SIGINT, raised epochs."""

from __future__ import annotations

import json
import re
import shutil
import signal
from pathlib import Path

import pytest
from small_runs import (
    QUICK,
    CliResult,
    crash,
    outcome,
    read,
    read_lines,
    run_bertft,
    write_classes,
    write_task,
)

LOOP = (
    "model=tiny", "trainer.threads=1", "trainer.batch_size=8", "trainer.micro_batch=4",
    "trainer.max_steps=16", "trainer.evaluate_every=4", "trainer.log_every=3", "quiet=true",
    "report=false",
)  # fmt: skip
METHODS = {
    "lora": ("method=lora", "method.low_rank.dropout=0.2"),
    # The directions of the start come from the first batches.
    "svd_lora": ("method=svd_lora", "method.low_rank.interval=1"),
    "prefix": ("method=prefix", "method.prefix.mlp=true", "report=true"),
    # Layers of transformers instead of hand-written ones; the gradient of embeddings is kept.
    "unfused": ("method=lora", "method.low_rank.dropout=0.2", "trainer.fused_layers=false"),
    "full": ("method=full", "trainer.ema=0.9"),
    # The first layer is computed once, by the run that is not killed.
    "frozen": ("method=last_k", "method.base.last_k=1", "trainer.cache_frozen=true"),
    # Projections to the teacher's other width, and a teacher that runs at each step.
    "distill": ("method=distill", "method.distill.hidden_weight=0.5"),
    # Answers that are remembered, and a base cut from the teacher.
    "cut": ("method=distill", "method.distill.student_layers=1"),
    # Two stages, and copies of the rows.
    "staged": (
        "method=distill", "method.distill.hidden_weight=0.5", "method.distill.inner_fraction=0.5",
        "method.distill.augment=2",
    ),
}  # fmt: skip
KILLS = {
    # (the write point, which time it is met): before the run is begun, in a save, after it
    "lora": [
        ("create check_rows.jsonl", 1), ("rename base", 1), ("create config.yaml", 1),
        ("rename manifest.json", 1), ("create .step-4", 1), ("write adapter.safetensors", 2),
        ("rename step-8", 1), ("rename last", 2), ("remove", 1), ("create metrics.json", 1),
    ],
    "svd_lora": [
        ("create .step-4", 1),  # before the first checkpoint: the start is computed again
        # Between two passes of step 5, while the budget is on its way: 16 passes are the start.
        ("forward", 26),
        ("write state.safetensors", 2), ("rename last", 2), ("rename step-12", 1)],
    "prefix": [("write adapter.safetensors", 2), ("link last", 3), ("write metrics.json", 1)],
    "unfused": [("write state.safetensors", 2)],
    "full": [("forward", 14), ("write state.safetensors", 2)],
    "frozen": [("write state.safetensors", 2)],
    "distill": [("write state.safetensors", 2), ("rename step-8", 1)],
    "cut": [("rename base", 1), ("rename last", 2)],
    "staged": [("forward", 20), ("write state.safetensors", 2)],
}  # fmt: skip


def nth(points: list[str], start: str, turn: int) -> int:
    """The number, from 1, of the point that starts so for the ``turn``-th time."""
    places = [n for n, point in enumerate(points, start=1) if point.startswith(start)]
    return places[turn - 1]


@pytest.mark.parametrize("method", METHODS)
def test_killed_and_resumed_it_ends_the_same(work_dir, trained, method):
    words = ["train", *LOOP, *write_task(work_dir, "classification"), *METHODS[method]]
    if "method=distill" in words:
        teacher = trained("classification", "method=full", "model.architecture.hidden_size=32")
        words.append(f"method.distill.teacher={teacher}")
    (whole,) = crash([([*words, f"hydra.run.dir={work_dir / 'whole'}"], None)])
    assert whole["status"] == 0, whole
    expected = outcome(work_dir / "whole")
    jobs = []
    for number, (start, turn) in enumerate(KILLS[method]):
        run = work_dir / f"killed-{number}"
        forward = start == "forward"
        point = 0 if forward else nth(whole["points"], start, turn)
        begun = forward or point > nth(whole["points"], "rename manifest.json", 1)
        again = [f"resume={run}"] if begun else [*words[1:], f"hydra.run.dir={run}", "resume=auto"]
        fault = f"forward:{turn}" if forward else f"SIGKILL:{point}"
        jobs += [([*words, f"hydra.run.dir={run}"], fault), (["train", *again], None)]
    content = crash(jobs)
    assert [job["status"] for job in content] == [-signal.SIGKILL, 0] * len(KILLS[method]), content
    for number, (start, turn) in enumerate(KILLS[method]):
        actual = outcome(work_dir / f"killed-{number}")
        assert actual == expected, f"killed before {start} ({turn})"


def test_questions_are_resumed_too(work_dir):
    words = ["train", *LOOP, *write_task(work_dir, "question_answering"), *METHODS["svd_lora"]]
    (whole,) = crash([([*words, f"hydra.run.dir={work_dir / 'whole'}"], None)])
    assert whole["status"] == 0, whole
    killed, number = work_dir / "killed", nth(whole["points"], "write adapter.safetensors", 2)
    cut, again = crash(
        [
            ([*words, f"hydra.run.dir={killed}"], f"SIGKILL:{number}"),
            (["train", f"resume={killed}"], None),
        ]
    )
    assert (cut["status"], again["status"]) == (-signal.SIGKILL, 0), (cut, again)
    assert outcome(killed) == outcome(work_dir / "whole")


def test_the_cuts_meant_something(work_dir):
    """The budget was in the midst of its way at the checkpoint that svd_lora went on from."""
    words = ["train", *LOOP, *write_task(work_dir, "classification"), *METHODS["svd_lora"]]
    result = run_bertft(*words, f"hydra.run.dir={work_dir / 'run'}")
    assert result.status == 0, result
    lines = [
        json.loads(line)
        for line in (work_dir / "run" / "metrics.jsonl").read_text().split("\n")[:-1]
    ]
    budget = {line["step"]: line["measures"]["budget"] for line in lines if line["event"] == "step"}
    assert budget[3] > budget[6] > budget[12] == budget[16]
    counted = [line["counts"] for line in lines if line["event"] == "evaluated"]
    assert counted == [False, False, True, True]
    assert read(work_dir / "run" / "metrics.json")["best"]["step"] in (12, 16)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_saves_states_how_to_resume_and_ends_with_its_status(work_dir, name):
    words = ["train", *LOOP, *write_task(work_dir, "classification"), *METHODS["lora"]]
    whole, run = work_dir / "whole", work_dir / "it's a run"
    reference, first, second = crash([
        ([*words, f"hydra.run.dir={whole}"], None),
        ([*words, f"hydra.run.dir={run}"], f"{name}:60"),  # in the midst of writing
        (["train", f"resume={run}"], None),
    ])  # fmt: skip
    assert reference["status"] == 0 and second["status"] == 0, (reference, second)
    assert first["status"] == 128 + getattr(signal, name)
    content = rf"error: step \d+: stopped by {name}\. Resume with bertft train 'resume="
    assert re.search(content, first["output"]), first["output"]
    assert first["output"].count("error: ") == 1 and "Traceback" not in first["output"]
    assert not {"metrics.json"} & {p.partition(" ")[2] for p in first["points"]}
    assert outcome(run) == outcome(whole)


LONG = (
    "model=tiny", "trainer.threads=1", "trainer.batch_size=4", "trainer.max_steps=150",
    "trainer.evaluate_every=30", "trainer.log_every=3", "quiet=true", "method=svd_lora",
    "report=false",
)  # fmt: skip


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """Words of a run of some seconds, and what it ends with."""
    folder = tmp_path_factory.mktemp("long")
    words = [*LONG, *write_task(folder, "classification")]
    result = run_bertft("train", *words, f"hydra.run.dir={folder / 'whole'}")
    assert result.status == 0, result
    return words, outcome(folder / "whole")


@pytest.mark.parametrize("lines", [12, pytest.param(31, marks=pytest.mark.long)])
def test_killed_from_outside_at_any_moment(work_dir, long, lines):
    words, expected = long
    (killed,) = crash([(["train", *words, "hydra.run.dir=run"], f"SIGKILL@{lines}")])
    assert killed["status"] == -signal.SIGKILL, killed
    result = run_bertft("train", f"resume={work_dir / 'run'}")
    assert result.status == 0, result
    assert outcome(work_dir / "run") == expected


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_signalled_from_outside(work_dir, long, name):
    words, expected = long
    run = work_dir / "run"
    (stopped,) = crash([(["train", *words, f"hydra.run.dir={run}"], f"{name}@20")])
    assert stopped["status"] == 128 + getattr(signal, name), stopped
    hint = "Resume with bertft train resume=run"
    content = rf"error: step \d+: stopped by {name}\. {re.escape(hint)}\n"
    assert re.fullmatch(content, stopped["output"]), stopped  # of both streams, and nothing else
    assert not (run / "metrics.json").exists()
    result = run_bertft("train", f"resume={run}", "quiet=false")
    assert result.status == 0 and "resuming after step" in result.err, result
    # The checkpoint that was saved for the signal is one more; what was learnt is the same.
    actual = outcome(work_dir / "run")
    assert {k: v for k, v in actual.items() if k != "steps"} == {
        k: v for k, v in expected.items() if k != "steps"
    }


def test_auto_starts_resumes_and_states_that_it_is_finished(work_dir, monkeypatch):
    words = ["train", *LOOP, *write_task(work_dir, "classification"), "resume=auto", "method=lora"]
    words += ["hydra.run.dir=run"]
    result = run_bertft(*words)
    assert result.status == 0 and "run folder: " in result.out, result
    finished = outcome(work_dir / "run")
    assert "resume: null" in (work_dir / "run" / "config.yaml").read_text()

    monkeypatch.setattr("bertft.cli.commands.train.prepare_run", None)  # nothing needs to be loaded
    for again in (words, ["train", "resume=run"]):
        result = run_bertft(*again)
        assert result.status == 0 and result.err == "", result
        assert "is finished after 16 steps" in result.out and result.out.count("\n") == 1
    assert outcome(work_dir / "run") == finished


def test_a_run_with_more_epochs_resumes_even_if_interrupted_again(work_dir):
    words = ["train", *QUICK[:-1], *write_task(work_dir, "classification"), "quiet=true"]
    assert run_bertft(*words, "trainer.epochs=1", "hydra.run.dir=run").status == 0
    assert read(work_dir / "run" / "metrics.json")["train"]["steps"] == 8

    def stop(name):
        if name.startswith("create .step-24"):
            raise KeyboardInterrupt

    from bertft.utils import failpoints

    with failpoints.install_hook(stop):
        assert run_bertft("train", "resume=run", "trainer.epochs=3").status == 130
    assert not (work_dir / "run" / "metrics.json").exists()
    assert read(work_dir / "run" / "manifest.json")["total_steps"] == 24
    result = run_bertft("train", "resume=run")  # it reads the new number of steps
    assert result.status == 0, result
    assert read(work_dir / "run" / "metrics.json")["train"]["steps"] == 24
    events = read_lines(work_dir / "run" / "metrics.jsonl")
    assert [event["event"] for event in events].count("finished") == 1
    result = run_bertft("train", "resume=run", "trainer.epochs=2")
    assert result.refused and "is not larger than 3" in result.err
    result = run_bertft("train", "resume=run", "trainer.learning_rate=1", "method=prefix")
    assert result.refused and "trainer.learning_rate" in result.err and "method" in result.err


def test_patience_that_ended_is_the_end(work_dir):
    data = write_task(work_dir, "classification")
    words = ["train", *LOOP, *data, "trainer.learning_rate=1e-9", "trainer.patience=1"]
    assert run_bertft(*words, "hydra.run.dir=run").status == 0
    done = read(work_dir / "run" / "metrics.json")
    assert done["train"]["steps"] == 8
    for more in ((), ("trainer.max_steps=40",)):
        result = run_bertft("train", "resume=run", *more)
        assert result.status == 0 and "is finished after 8 steps" in result.out, result
    assert read(work_dir / "run" / "metrics.json") == done


def test_a_folder_that_holds_a_run_is_refused_before_anything_is_loaded(copied, monkeypatch):
    run = copied("classification", "method=lora")
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    monkeypatch.setattr("bertft.cli.commands.train.prepare_run", None)
    result = run_bertft("train", f"hydra.run.dir={run}")
    assert result.refused and "contains a finished run" in result.err, result
    (run / "metrics.json").unlink()
    result = run_bertft("train", f"hydra.run.dir={run}")
    assert result.refused and f"resume={run}" in result.err
    del before[run / "metrics.json"]
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_resume_wants_a_run(work_dir):
    (work_dir / "empty").mkdir()
    result = run_bertft("train", "resume=empty")
    assert result.refused and "is not a run folder" in result.err
    result = run_bertft("train", "resume=gone")
    assert result.refused and "there is no folder gone" in result.err


def unfinished(folder: Path, *words: str) -> Path:
    """A run that was stopped as it began to save step 12; it has steps 4 and 8."""
    from bertft.utils import failpoints

    def stop(name):
        if name.startswith("create .step-12"):
            raise KeyboardInterrupt

    data = write_task(folder, "classification")
    with failpoints.install_hook(stop):
        result = run_bertft("train", *LOOP, *data, *words, "hydra.run.dir=run")
    assert result.status == 130, result
    return folder / "run"


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken(work_dir):
    run = unfinished(work_dir)
    shutil.copytree(run, work_dir / "whole", symlinks=True)
    assert run_bertft("train", "resume=whole").status == 0
    file = run / "checkpoints" / "step-8" / "adapter.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    result = run_bertft("train", "resume=run")
    assert result.status == 0, result
    assert (
        result.err.startswith("warning: ") and "step-8: damaged: adapter.safetensors" in result.err
    )
    assert outcome(run) == outcome(work_dir / "whole")


def test_a_best_that_is_damaged_is_reported_first_and_searched_for_again(copied):
    run = copied("classification", "method=lora")
    best = run / "checkpoints" / f"step-{read(run / 'metrics.json')['best']['step']}"
    steps = read(run / "metrics.json")["train"]["steps"]
    (best / "adapter.safetensors").write_bytes(b"")
    if best.name == f"step-{steps}":  # what it goes on from is the one before
        steps -= 8
    result = run_bertft("train", f"resume={run}", "trainer.epochs=3")
    assert result.status == 0, result
    assert f"{best.name}: damaged" in result.err
    actual = read(run / "metrics.json")
    assert actual["best"]["step"] > steps and actual["train"]["steps"] == 24
    assert run_bertft("verify", f"run={run}").status == 0
    assert run_bertft("eval", f"run={run}").status == 0


def test_other_threads_or_processes_are_reported(work_dir):
    """A run that was begun by two processes goes on in one: the first's dropout goes on."""
    run = unfinished(work_dir)
    content = read(run / "manifest.json")
    content["hardware"] |= {"threads": 7, "processes": 2}
    (run / "manifest.json").write_text(json.dumps(content))
    result = run_bertft("train", "resume=run")
    assert result.status == 0, result
    lost = "the results will differ in the last bits"
    assert f"warning: the number of CPU threads was 7, is 1: {lost}" in result.err
    assert f"warning: the number of processes was 2, is 1: {lost}" in result.err
    assert result.err.count("warning: ") == 2


def test_rows_that_changed_since_are_refused(work_dir):
    run = unfinished(work_dir)
    write_classes(work_dir / "train.csv", 64, seed=5)
    before = outcome_files(run)
    result = run_bertft("train", "resume=run")
    assert (
        result.refused
        and "the train rows are not those that the run was trained with" in result.err
    )
    assert outcome_files(run) == before


def outcome_files(run: Path) -> dict[str, bytes]:
    return {str(p.relative_to(run)): p.read_bytes() for p in run.rglob("*") if p.is_file()}


def test_a_shortened_metrics_file_is_reported(work_dir):
    run = unfinished(work_dir)
    (run / "metrics.jsonl").write_text("")
    result = run_bertft("train", "resume=run")
    assert result.refused and "metrics.jsonl" in result.err


def test_the_tokenizer_of_the_run_is_used_not_that_of_its_old_place(work_dir):
    """A resume needs neither the folder of the tokenizer nor the run that was its base."""
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(minilm()).save_pretrained(work_dir / "tokens")
    run = unfinished(work_dir, f"model.tokenizer={work_dir / 'tokens'}")
    shutil.copytree(run, work_dir / "whole", symlinks=True)
    assert run_bertft("train", "resume=whole").status == 0
    shutil.rmtree(work_dir / "tokens")
    result = run_bertft("train", "resume=run")
    assert result.status == 0, result
    assert outcome(run) == outcome(work_dir / "whole")
    assert run_bertft("eval", "run=run", "hydra.run.dir=scored").status == 0


def minilm() -> str:
    from bertft.models.source import find_model_source

    return find_model_source("all-MiniLM-L6-v2").load


def test_it_resumes_from_anywhere(work_dir, monkeypatch):
    write_task(work_dir, "classification")
    run = unfinished(work_dir, "data.train=train.csv", "data.test=test.csv")
    (work_dir / "elsewhere").mkdir()
    monkeypatch.chdir(work_dir / "elsewhere")
    result: CliResult = run_bertft("train", "resume=../run")
    assert result.status == 0, result
    assert read(run / "metrics.json")["train"]["steps"] == 16


def begun_elsewhere(folder, monkeypatch):
    """A run in ``place / "a"`` with a base, a tokenizer, a teacher and a file of its own next to
    a preset of the Hub, all named by relative paths; another run was never killed.
    """
    (folder / "a").mkdir()
    data = write_task(folder / "a", "classification")
    monkeypatch.chdir(folder / "a")
    short = ("trainer.max_steps=2", "trainer.evaluate_every=2", "quiet=true", "report=false")
    result = run_bertft("train", *QUICK[:2], "method=full", *short, *data, "hydra.run.dir=teacher")
    assert result.status == 0, result
    shutil.copytree("teacher/base", "tokens")
    (folder / "a" / "tokens" / "model.safetensors").unlink()
    words = [
        "train", *QUICK[1:3], *short, "method=lora", "model.path=teacher/base",
        "model.tokenizer=tokens", "method.distill.teacher=teacher", "data=sst2",
        "data.train=train.csv", "data.validation=validation.csv", "data.text=text",
    ]  # fmt: skip
    (whole,) = crash([([*words, "hydra.run.dir=whole"], None)])
    assert whole["status"] == 0, whole
    point = nth(whole["points"], "create .step-2", 1)
    (cut,) = crash([([*words, "hydra.run.dir=killed"], f"SIGKILL:{point}")])
    assert cut["status"] == -signal.SIGKILL, cut


def test_before_its_first_checkpoint_it_resumes_from_anywhere(work_dir, monkeypatch):
    """Other folders of the same names, where it goes on, are not those that it was begun on."""
    begun_elsewhere(work_dir, monkeypatch)
    for name in ("teacher", "tokens"):
        (work_dir / "b" / name).mkdir(parents=True)
    monkeypatch.chdir(work_dir / "b")
    result = run_bertft("train", "resume=../a/killed")
    assert result.status == 0, result
    assert outcome(work_dir / "a" / "killed") == outcome(work_dir / "a" / "whole")
    # Nor does it go on with another tokenizer in the place of its own.
    file = work_dir / "a" / "tokens" / "tokenizer_config.json"
    file.write_text(json.dumps({**read(file), "do_lower_case": False, "cls_token": "[SEP]"}))
    shutil.rmtree(work_dir / "a" / "killed" / "checkpoints")
    (work_dir / "a" / "killed" / "checkpoints").mkdir()
    (work_dir / "a" / "killed" / "metrics.json").unlink()
    result = run_bertft("train", "resume=../a/killed")
    assert (
        result.refused
        and "the tokenizer is not the one that the run was started with" in result.err
    )
