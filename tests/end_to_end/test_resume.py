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
    Said,
    crash,
    outcome,
    read,
    read_lines,
    say,
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
    "svd_lora": ("method=svd_lora", "method.low_rank.interval=1"),
    "prefix": ("method=prefix", "method.prefix.mlp=true", "report=true"),
    # Projections to the teacher's other width, and a teacher that runs at each step.
    "distill": ("method=distill", "method.distill.hidden_weight=0.5"),
    # Answers that are remembered, and a base cut from the teacher.
    "cut": ("method=distill", "method.distill.student_layers=1"),
}
KILLS = {
    # (the write point, which time it is met): before the run is begun, in a save, after it
    "lora": [
        ("create check_rows.jsonl", 1), ("rename base", 1), ("create config.yaml", 1),
        ("rename manifest.json", 1), ("create .step-4", 1), ("write adapter.safetensors", 2),
        ("rename step-8", 1), ("rename last", 2), ("remove", 1), ("create metrics.json", 1),
    ],
    "svd_lora": [
        ("forward", 14),  # between two passes of step 7, while the budget is on its way
        ("write state.safetensors", 2), ("rename last", 2), ("rename step-12", 1)],
    "prefix": [("write adapter.safetensors", 2), ("link last", 3), ("write metrics.json", 1)],
    "distill": [("write state.safetensors", 2), ("rename step-8", 1)],
    "cut": [("rename base", 1), ("rename last", 2)],
}  # fmt: skip


def nth(points: list[str], start: str, turn: int) -> int:
    """The number, from 1, of the point that starts so for the ``turn``-th time."""
    places = [n for n, point in enumerate(points, start=1) if point.startswith(start)]
    return places[turn - 1]


@pytest.mark.parametrize("method", METHODS)
def test_killed_and_gone_on_with_it_ends_the_same(place, trained, method):
    words = ["train", *LOOP, *write_task(place, "classification"), *METHODS[method]]
    if "method=distill" in words:
        teacher = trained("classification", "method=full", "model.architecture.hidden_size=32")
        words.append(f"method.distill.teacher={teacher}")
    (whole,) = crash([([*words, f"hydra.run.dir={place / 'whole'}"], None)])
    assert whole["status"] == 0, whole
    expected = outcome(place / "whole")
    jobs = []
    for number, (start, turn) in enumerate(KILLS[method]):
        run = place / f"killed-{number}"
        forward = start == "forward"
        point = 0 if forward else nth(whole["points"], start, turn)
        begun = forward or point > nth(whole["points"], "rename manifest.json", 1)
        again = [f"resume={run}"] if begun else [*words[1:], f"hydra.run.dir={run}", "resume=auto"]
        fault = f"forward:{turn}" if forward else f"SIGKILL:{point}"
        jobs += [([*words, f"hydra.run.dir={run}"], fault), (["train", *again], None)]
    told = crash(jobs)
    assert [each["status"] for each in told] == [-signal.SIGKILL, 0] * len(KILLS[method]), told
    for number, (start, turn) in enumerate(KILLS[method]):
        found = outcome(place / f"killed-{number}")
        assert found == expected, f"killed before {start} ({turn})"


def test_questions_are_gone_on_with_too(place):
    words = ["train", *LOOP, *write_task(place, "question_answering"), *METHODS["svd_lora"]]
    (whole,) = crash([([*words, f"hydra.run.dir={place / 'whole'}"], None)])
    assert whole["status"] == 0, whole
    killed, number = place / "killed", nth(whole["points"], "write adapter.safetensors", 2)
    cut, again = crash(
        [
            ([*words, f"hydra.run.dir={killed}"], f"SIGKILL:{number}"),
            (["train", f"resume={killed}"], None),
        ]
    )
    assert (cut["status"], again["status"]) == (-signal.SIGKILL, 0), (cut, again)
    assert outcome(killed) == outcome(place / "whole")


def test_the_cuts_meant_something(place):
    """The budget was in the midst of its way at the checkpoint that svd_lora went on from."""
    words = ["train", *LOOP, *write_task(place, "classification"), *METHODS["svd_lora"]]
    said = say(*words, f"hydra.run.dir={place / 'run'}")
    assert said.status == 0, said
    lines = [
        json.loads(line) for line in (place / "run" / "metrics.jsonl").read_text().split("\n")[:-1]
    ]
    budget = {line["step"]: line["measures"]["budget"] for line in lines if line["event"] == "step"}
    assert budget[3] > budget[6] > budget[12] == budget[16]
    counted = [line["counts"] for line in lines if line["event"] == "evaluated"]
    assert counted == [False, False, True, True]
    assert read(place / "run" / "metrics.json")["best"]["step"] in (12, 16)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_saves_says_how_to_go_on_and_ends_with_its_status(place, name):
    words = ["train", *LOOP, *write_task(place, "classification"), *METHODS["lora"]]
    whole, run = place / "whole", place / "it's a run"
    reference, first, second = crash([
        ([*words, f"hydra.run.dir={whole}"], None),
        ([*words, f"hydra.run.dir={run}"], f"{name}:60"),  # in the midst of writing
        (["train", f"resume={run}"], None),
    ])  # fmt: skip
    assert reference["status"] == 0 and second["status"] == 0, (reference, second)
    assert first["status"] == 128 + getattr(signal, name)
    told = rf"error: step \d+: stopped by {name}\. Resume with bertft train 'resume="
    assert re.search(told, first["said"]), first["said"]
    assert first["said"].count("error: ") == 1 and "Traceback" not in first["said"]
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
    place = tmp_path_factory.mktemp("long")
    words = [*LONG, *write_task(place, "classification")]
    said = say("train", *words, f"hydra.run.dir={place / 'whole'}")
    assert said.status == 0, said
    return words, outcome(place / "whole")


@pytest.mark.parametrize("lines", [12, 31])
def test_killed_from_outside_at_any_moment(place, long, lines):
    words, expected = long
    (killed,) = crash([(["train", *words, "hydra.run.dir=run"], f"SIGKILL@{lines}")])
    assert killed["status"] == -signal.SIGKILL, killed
    said = say("train", f"resume={place / 'run'}")
    assert said.status == 0, said
    assert outcome(place / "run") == expected


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_signalled_from_outside(place, long, name):
    words, expected = long
    run = place / "run"
    (stopped,) = crash([(["train", *words, f"hydra.run.dir={run}"], f"{name}@20")])
    assert stopped["status"] == 128 + getattr(signal, name), stopped
    hint = f"Resume with bertft train resume={run}"
    told = rf"error: step \d+: stopped by {name}\. {re.escape(hint)}\n"
    assert re.fullmatch(told, stopped["said"]), stopped  # of both streams, and nothing else
    assert not (run / "metrics.json").exists()
    said = say("train", f"resume={run}", "quiet=false")
    assert said.status == 0 and "resuming after step" in said.err, said
    # The checkpoint that was saved for the signal is one more; what was learnt is the same.
    found = outcome(place / "run")
    assert {k: v for k, v in found.items() if k != "steps"} == {
        k: v for k, v in expected.items() if k != "steps"
    }


def test_auto_starts_goes_on_and_says_that_it_is_finished(place, monkeypatch):
    words = ["train", *LOOP, *write_task(place, "classification"), "resume=auto", "method=lora"]
    words += ["hydra.run.dir=run"]
    said = say(*words)
    assert said.status == 0 and "run folder: " in said.out, said
    finished = outcome(place / "run")
    assert "resume: null" in (place / "run" / "config.yaml").read_text()

    monkeypatch.setattr("bertft.cli.commands.train.prepare_run", None)  # nothing needs to be loaded
    for again in (words, ["train", "resume=run"]):
        said = say(*again)
        assert said.status == 0 and said.err == "", said
        assert "is finished after 16 steps" in said.out and said.out.count("\n") == 1
    assert outcome(place / "run") == finished


def test_epochs_raised_go_on_even_if_cut_off_again(place):
    words = ["train", *QUICK[:-1], *write_task(place, "classification"), "quiet=true"]
    assert say(*words, "trainer.epochs=1", "hydra.run.dir=run").status == 0
    assert read(place / "run" / "metrics.json")["train"]["steps"] == 8

    def stop(name):
        if name.startswith("create .step-24"):
            raise KeyboardInterrupt

    from bertft.utils import failpoints

    with failpoints.install_hook(stop):
        assert say("train", "resume=run", "trainer.epochs=3").status == 130
    assert not (place / "run" / "metrics.json").exists()
    assert read(place / "run" / "manifest.json")["total_steps"] == 24
    said = say("train", "resume=run")  # it knows that more was asked for
    assert said.status == 0, said
    assert read(place / "run" / "metrics.json")["train"]["steps"] == 24
    events = read_lines(place / "run" / "metrics.jsonl")
    assert [event["event"] for event in events].count("finished") == 1
    said = say("train", "resume=run", "trainer.epochs=2")
    assert said.refused and "is not larger than 3" in said.err
    said = say("train", "resume=run", "trainer.learning_rate=1", "method=prefix")
    assert said.refused and "trainer.learning_rate" in said.err and "method" in said.err


def test_patience_that_ended_is_the_end(place):
    data = write_task(place, "classification")
    words = ["train", *LOOP, *data, "trainer.learning_rate=1e-9", "trainer.patience=1"]
    assert say(*words, "hydra.run.dir=run").status == 0
    done = read(place / "run" / "metrics.json")
    assert done["train"]["steps"] == 8
    for more in ((), ("trainer.max_steps=40",)):
        said = say("train", "resume=run", *more)
        assert said.status == 0 and "is finished after 8 steps" in said.out, said
    assert read(place / "run" / "metrics.json") == done


def test_a_folder_that_holds_a_run_is_refused_before_anything_is_loaded(copied, monkeypatch):
    run = copied("classification", "method=lora")
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    monkeypatch.setattr("bertft.cli.commands.train.prepare_run", None)
    said = say("train", f"hydra.run.dir={run}")
    assert said.refused and "contains a finished run" in said.err, said
    (run / "metrics.json").unlink()
    said = say("train", f"hydra.run.dir={run}")
    assert said.refused and f"resume={run}" in said.err
    del before[run / "metrics.json"]
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_resume_wants_a_run(place):
    (place / "empty").mkdir()
    said = say("train", "resume=empty")
    assert said.refused and "is not a run folder" in said.err
    said = say("train", "resume=gone")
    assert said.refused and "there is no folder gone" in said.err


def unfinished(place: Path, *words: str) -> Path:
    """A run that was stopped as it began to save step 12; it has steps 4 and 8."""
    from bertft.utils import failpoints

    def stop(name):
        if name.startswith("create .step-12"):
            raise KeyboardInterrupt

    data = write_task(place, "classification")
    with failpoints.install_hook(stop):
        said = say("train", *LOOP, *data, *words, "hydra.run.dir=run")
    assert said.status == 130, said
    return place / "run"


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken(place):
    run = unfinished(place)
    shutil.copytree(run, place / "whole", symlinks=True)
    assert say("train", "resume=whole").status == 0
    file = run / "checkpoints" / "step-8" / "adapter.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    said = say("train", "resume=run")
    assert said.status == 0, said
    assert said.err.startswith("warning: ") and "step-8: damaged: adapter.safetensors" in said.err
    assert outcome(run) == outcome(place / "whole")


def test_a_best_that_is_damaged_is_told_first_and_sought_anew(copied):
    run = copied("classification", "method=lora")
    best = run / "checkpoints" / f"step-{read(run / 'metrics.json')['best']['step']}"
    steps = read(run / "metrics.json")["train"]["steps"]
    (best / "adapter.safetensors").write_bytes(b"")
    if best.name == f"step-{steps}":  # what it goes on from is the one before
        steps -= 8
    said = say("train", f"resume={run}", "trainer.epochs=3")
    assert said.status == 0, said
    assert f"{best.name}: damaged" in said.err
    found = read(run / "metrics.json")
    assert found["best"]["step"] > steps and found["train"]["steps"] == 24
    assert say("verify", f"run={run}").status == 0
    assert say("eval", f"run={run}").status == 0


def test_other_threads_or_processes_are_told(place):
    """A run that was begun by two processes goes on in one: the first's dropout goes on."""
    run = unfinished(place)
    told = read(run / "manifest.json")
    told["hardware"] |= {"threads": 7, "processes": 2}
    (run / "manifest.json").write_text(json.dumps(told))
    said = say("train", "resume=run")
    assert said.status == 0, said
    lost = "the results will differ in the last bits"
    assert f"warning: the number of CPU threads was 7, is 1: {lost}" in said.err
    assert f"warning: the number of processes was 2, is 1: {lost}" in said.err
    assert said.err.count("warning: ") == 2


def test_rows_that_changed_since_are_refused(place):
    run = unfinished(place)
    write_classes(place / "train.csv", 64, seed=5)
    before = outcome_files(run)
    said = say("train", "resume=run")
    assert said.refused and "the train rows are not those that the run was trained with" in said.err
    assert outcome_files(run) == before


def outcome_files(run: Path) -> dict[str, bytes]:
    return {str(p.relative_to(run)): p.read_bytes() for p in run.rglob("*") if p.is_file()}


def test_a_metrics_file_that_was_cut_is_told(place):
    run = unfinished(place)
    (run / "metrics.jsonl").write_text("")
    said = say("train", "resume=run")
    assert said.refused and "metrics.jsonl" in said.err


def test_the_tokenizer_of_the_run_is_used_not_that_of_its_old_place(place):
    """A resume needs neither the folder of the tokenizer nor the run that was its base."""
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(minilm()).save_pretrained(place / "tokens")
    run = unfinished(place, f"model.tokenizer={place / 'tokens'}")
    shutil.copytree(run, place / "whole", symlinks=True)
    assert say("train", "resume=whole").status == 0
    shutil.rmtree(place / "tokens")
    said = say("train", "resume=run")
    assert said.status == 0, said
    assert outcome(run) == outcome(place / "whole")
    assert say("eval", "run=run", "hydra.run.dir=scored").status == 0


def minilm() -> str:
    from bertft.models.source import find_model_source

    return find_model_source("all-MiniLM-L6-v2").load


def test_it_goes_on_from_anywhere(place, monkeypatch):
    write_task(place, "classification")
    run = unfinished(place, "data.train=train.csv", "data.test=test.csv")
    (place / "elsewhere").mkdir()
    monkeypatch.chdir(place / "elsewhere")
    said: Said = say("train", "resume=../run")
    assert said.status == 0, said
    assert read(run / "metrics.json")["train"]["steps"] == 16


def begun_elsewhere(place, monkeypatch):
    """A run in ``place / "a"`` with a base, a tokenizer, a teacher and a file of its own next to
    a preset of the Hub, all named by relative paths; another run was never killed.
    """
    (place / "a").mkdir()
    data = write_task(place / "a", "classification")
    monkeypatch.chdir(place / "a")
    short = ("trainer.max_steps=2", "trainer.evaluate_every=2", "quiet=true", "report=false")
    said = say("train", *QUICK[:2], "method=full", *short, *data, "hydra.run.dir=teacher")
    assert said.status == 0, said
    shutil.copytree("teacher/base", "tokens")
    (place / "a" / "tokens" / "model.safetensors").unlink()
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


def test_before_its_first_checkpoint_it_goes_on_from_anywhere(place, monkeypatch):
    """Other folders of the same names, where it goes on, are not those that it was begun on."""
    begun_elsewhere(place, monkeypatch)
    for name in ("teacher", "tokens"):
        (place / "b" / name).mkdir(parents=True)
    monkeypatch.chdir(place / "b")
    said = say("train", "resume=../a/killed")
    assert said.status == 0, said
    assert outcome(place / "a" / "killed") == outcome(place / "a" / "whole")
    # Nor does it go on with another tokenizer in the place of its own.
    file = place / "a" / "tokens" / "tokenizer_config.json"
    file.write_text(json.dumps({**read(file), "do_lower_case": False, "cls_token": "[SEP]"}))
    shutil.rmtree(place / "a" / "killed" / "checkpoints")
    (place / "a" / "killed" / "checkpoints").mkdir()
    (place / "a" / "killed" / "metrics.json").unlink()
    said = say("train", "resume=../a/killed")
    assert said.refused and "the tokenizer is not the one that the run was started with" in said.err
