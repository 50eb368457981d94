"""Runs whose learning rate makes them collapse: warned about, stopped, retried, killed."""

from __future__ import annotations

import signal

import pytest
from small_runs import crash, outcome, read, read_lines, run_bertft, write_task

LOOP = (
    "model=tiny", "trainer.threads=1", "trainer.batch_size=4", "trainer.max_steps=110",
    "trainer.evaluate_every=22", "trainer.warmup=0", "method=full", "report=false",
)  # fmt: skip
RETRY = ("trainer.on_collapse=retry", "trainer.max_retries=9", "quiet=true")


@pytest.fixture
def words(work_dir):
    return ["train", *LOOP, *write_task(work_dir, "classification")]


def collapses(run):
    lines = read_lines(run / "metrics.jsonl")
    return [line for line in lines if line["event"] in ("collapsed", "retried")]


def check_rescued(run):
    """The run was retried, and learned then. Returns how often."""
    events = collapses(run)
    assert [event["event"] for event in events] == ["collapsed", "retried"] * (len(events) // 2)
    retries = [[event["collapsed_step"], event["step"]] for event in events[1::2]]
    assert read(run / "manifest.json")["retries"] == retries and retries
    assert events[-1]["rate_factor"] == 0.5 ** len(retries)
    metrics = read(run / "metrics.json")
    assert metrics["findings"][0]["kind"] == "training_retried"
    assert metrics["best"]["value"] > 0.9 and metrics["train"]["steps"] == 110
    return len(retries)


def test_stopped_and_then_only_warned_about(work_dir, words):
    run = work_dir / "run"
    words = [*words, "trainer.learning_rate=0.4", f"hydra.run.dir={run}"]
    stopped = run_bertft(*words, "trainer.on_collapse=stop")
    assert stopped.status == 3
    (event,) = collapses(run)
    assert event["step"] == 100 and event["input_free_loss"] == pytest.approx(0.693, abs=1e-3)
    what = f"collapsed: {event['reason']}. Set trainer.learning_rate=0.2 (half of the present rate)"
    err = " ".join(stopped.err.split())
    assert f"step 100: the run may have {what}" in err, "in the progress"
    assert f"error: step 100: the run has {what}" in err
    assert (run / "checkpoints" / "last").resolve().name == "step-100"
    again = run_bertft("train", f"resume={run}")
    assert again.status == 3 and f"the run has {what}" in " ".join(again.err.split())

    done = run_bertft("train", f"resume={run}", "trainer.on_collapse=warn", "report=true")
    assert done.status == 0, done
    finding = read(run / "metrics.json")["findings"][0]
    assert finding["kind"] == "training_collapsed" and event["reason"] in finding["message"]
    assert "trainer.learning_rate=0.2" in finding["advice"]
    assert event["reason"] in " ".join(done.out.split())
    assert event["reason"] in (run / "report.html").read_text(encoding="utf-8")


def test_retried(work_dir, words):
    run = work_dir / "run"
    result = run_bertft(*words, *RETRY, "trainer.learning_rate=0.01", f"hydra.run.dir={run}")
    assert result.status == 0, result
    assert check_rescued(run) >= 1
    assert "continued with 0." in " ".join(result.out.split())


@pytest.mark.long
def test_killed_after_a_retry_and_resumed_ends_the_same(work_dir, words):
    words = [*words, *RETRY, "trainer.learning_rate=0.1"]
    whole, killed = work_dir / "whole", [work_dir / f"killed-{number}" for number in range(3)]
    # In the first try, in the second one before its first checkpoint, and after its second one.
    faults = ["forward:50", "forward:105", "forward:145"]
    jobs = [([*words, f"hydra.run.dir={whole}"], None)]
    for run, fault in zip(killed, faults, strict=True):
        jobs += [([*words, f"hydra.run.dir={run}"], fault), (["train", f"resume={run}"], None)]
    first, *others = crash(jobs)
    assert first["status"] == 0, first
    assert [job["status"] for job in others] == [-signal.SIGKILL, 0] * 3, others
    count = check_rescued(whole)
    for run in killed:
        assert outcome(run) == outcome(whole)
        assert check_rescued(run) == count


@pytest.mark.long
def test_two_processes_retry_together(work_dir, words):
    run = work_dir / "run"
    (both,) = crash(
        [([*words, *RETRY, "trainer.learning_rate=0.1", f"hydra.run.dir={run}"], None, 2)]
    )
    assert [result["status"] for result in both] == [0, 0], both
    check_rescued(run)
