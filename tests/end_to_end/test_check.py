"""``check=true`` tells what a run would need and leaves nothing, as does a start that fails."""

from __future__ import annotations

import re
import signal

import pytest
import torch
from small_runs import crash, run_bertft, write_csv, write_task

from bertft.models.runner import EncoderRunner

TINY = ("train", "model=tiny", "trainer.threads=1", "trainer.batch_size=8", "trainer.max_steps=40")


@pytest.mark.parametrize("place_of_run", [(), ("hydra.run.dir=there/run",)])
def test_it_reports_memory_time_and_data_and_leaves_nothing(work_dir, monkeypatch, place_of_run):
    rows = [("a good film " * (1 + n), "pos" if n % 2 else "neg") for n in range(40)]
    write_csv(work_dir / "train.csv", ("text", "label"), rows)
    taken, call = [], EncoderRunner.__call__

    def watched(self, batch):
        taken.append(batch.lengths.tolist())
        return call(self, batch)

    monkeypatch.setattr(EncoderRunner, "__call__", watched)
    monkeypatch.setenv("COLUMNS", "200")
    words = (*TINY, "data=files", "data.train=train.csv", "data.max_length=64", "check=true")
    result = run_bertft(*words, "trainer.evaluate_every=15", "trainer.micro_batch=4", *place_of_run)
    assert result.status == 0, result
    assert taken[:2] == [[64] * 4, [64] * 4], "the longest rows of all, as they would be run"
    actual = re.search(
        r"largest step: 8 sequences of up to 64 tokens, 4 sequences per forward pass,"
        r" peak memory ([\d.]+) ([MG])B\n"
        r"whole run: 40 steps and 3 evaluations, about (.+)\n$", result.out
    )  # fmt: skip
    assert actual, result.out
    # That of the whole process, which has run other tests before.
    assert float(actual[1]) * {"M": 1, "G": 1000}[actual[2]] > 100
    assert re.fullmatch(r"\d+\.\d s", actual[3])
    truncated = re.search(r"train .*?([\d.]+)%.*neg 50\.0%, pos 50\.0%", result.out)
    assert truncated and 40 < float(truncated[1]) < 60
    assert sorted(path.name for path in work_dir.iterdir()) == (
        ["there", "train.csv"] if place_of_run and (work_dir / "there").exists() else ["train.csv"]
    )
    assert not list(work_dir.glob("there/*"))


def test_memory_that_does_not_suffice_is_reported(work_dir, monkeypatch):
    call = EncoderRunner.__call__

    def limited(self, batch):
        if torch.is_grad_enabled() and len(batch) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return call(self, batch)

    monkeypatch.setattr(EncoderRunner, "__call__", limited)
    data = write_task(work_dir, "classification")
    result = run_bertft(*TINY, *data, "check=true", "quiet=true")
    assert result.status == 0, result
    assert (
        "2 sequences per forward pass" in result.out and "set trainer.micro_batch=2" in result.out
    )

    result = run_bertft(*TINY, *data, "trainer.max_steps=3", "hydra.run.dir=run")
    assert result.status == 0, result
    assert "out of memory after step 0: micro-batches now have 2 sequences" in result.err
    assert '"event": "memory_short", "step": 0' in (work_dir / "run" / "timings.jsonl").read_text()
    assert "memory" not in (work_dir / "run" / "metrics.jsonl").read_text()


def test_it_goes_with_a_run_that_begins(work_dir):
    result = run_bertft(*TINY, "check=true", "resume=auto")
    assert result.refused and "check: is not supported together with resume" in result.err
    result = run_bertft(*TINY, "-m", "check=true", "seed=0,1")
    assert result.refused and "check: is not supported by a sweep" in result.err
    assert not list(work_dir.glob("outputs/train/*"))


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_ends_it_and_leaves_nothing(work_dir, name, monkeypatch):
    (work_dir / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(work_dir / "tmp"))
    words = (*TINY, "check=true", "data.max_train_rows=100", "quiet=true")
    (ended,) = crash([(words, f"forward {name}:1")])  # in the midst of its first step
    assert ended["status"] == 128 + getattr(signal, name), ended
    assert ended["output"] == f"error: stopped by {name}\n"
    assert [path.name for path in work_dir.rglob("*")] == ["tmp"]


def test_a_start_that_is_refused_leaves_no_folder(work_dir):
    result = run_bertft(*TINY, "data=files", "data.train=absent.csv")
    assert result.refused and not list(work_dir.iterdir()), list(work_dir.rglob("*"))


def test_an_interrupt_while_it_starts_leaves_no_folder(work_dir, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("bertft.cli.commands.train.prepare_run", interrupted)
    assert run_bertft(*TINY).status == 130
    assert not list(work_dir.iterdir()), list(work_dir.rglob("*"))
