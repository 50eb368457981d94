"""Several processes make one run: the same rows, one folder, one voice; cut off, it goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_runs import JOB_LIMIT, crash, outcome, read, read_lines, write_task

import bertft

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/task").is_dir(), reason="the process to kill is found in /proc"
)

ROOT = Path(bertft.__file__).parents[1]
# 64 rows in batches of 7: an odd share, and a last batch of one row for two ranks.
WORDS = (
    "train", "model=tiny", "trainer.threads=1", "trainer.batch_size=7", "trainer.micro_batch=2",
    "trainer.max_steps=24", "trainer.evaluate_every=4", "trainer.log_every=1", "method=svd_lora",
    "method.low_rank.interval=1", "method.low_rank.dropout=0.2", "trainer.precision=fp32",
)  # fmt: skip
CALM = (
    "++model.architecture.hidden_dropout_prob=0",
    "++model.architecture.attention_probs_dropout_prob=0", "method.low_rank.dropout=0",
)  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folder, and what became of the runs that the tests look at."""
    folder = tmp_path_factory.mktemp("ranks")
    words = [*WORDS, *write_task(folder, "classification"), "quiet=true"]
    long = [*words, "trainer.max_steps=28", "report=false"]
    stored = [word for word in words if not word.startswith("method")]
    stored += ["method=last_k", "method.base.last_k=1", "trainer.cache_frozen=true", *CALM[:2]]
    stored += ["trainer.max_steps=8", "report=false"]
    half = [*words, "trainer.precision=bf16", "trainer.max_steps=12", "report=false"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("BERTFT_CACHE", str(folder / "rows"))
        patch.setenv("HF_HUB_OFFLINE", "1")
        killed = torchrun_with_a_kill([*long, "hydra.run.dir=killed"], folder / "killed")
        jobs = {
            "one": ([*words, *CALM, "hydra.run.dir=one"], None),
            "two": ([*words, *CALM], None, 2),  # in the folder that Hydra names
            "whole": ([*long, "hydra.run.dir=whole"], None, 2),
            "after a kill": (["train", "resume=killed"], None, 2),
            "stopped": ([*long, "hydra.run.dir=stopped"], "SIGTERM:60", 2),
            "after a signal": (["train", "resume=stopped"], None, 2),
            "again": ([*words, "hydra.run.dir=whole"], None, 2),
            "two, stored": ([*stored, "hydra.run.dir=stored2"], None, 2),
            "one, stored": ([*stored, "hydra.run.dir=stored1"], None),
            "one, bf16": ([*half, *CALM, "hydra.run.dir=one16"], None),
            "two, bf16": ([*half, *CALM, "hydra.run.dir=two16"], None, 2),
            "stopped, bf16": ([*half, *CALM, "hydra.run.dir=cut16"], "forward SIGTERM:12", 2),
            "after it, bf16": (["train", "resume=cut16"], None, 2),
        }
        content = dict(zip(jobs, crash(list(jobs.values())), strict=True))
    return folder, {"killed": killed, **content}


def torchrun_with_a_kill(words, run):
    """Exit status and output of torchrun, after its second process was killed in the midst."""
    log = run / "metrics.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2",
         "-m", "bertft", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    begun = time.monotonic()
    while process.poll() is None and not (log.is_file() and log.read_bytes().count(b"\n") > 12):
        if time.monotonic() - begun > JOB_LIMIT:
            process.kill()
            raise AssertionError(f"no 12 events after {JOB_LIMIT} s", process.communicate())
        time.sleep(0.02)
    assert process.poll() is None, process.communicate()
    os.kill(children(process.pid)["1"], signal.SIGKILL)
    out, err = process.communicate(timeout=JOB_LIMIT)
    return process.returncode, out, err


def children(pid: int) -> dict[str, int]:
    """RANK → process, of those that torchrun started."""
    actual = {}
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        content = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        actual |= {word[5:].decode(): int(child) for word in content if word.startswith(b"RANK=")}
    return actual


def test_two_processes_learn_what_one_learns(runs):
    folder, content = runs
    one, two = content["one"], content["two"]
    assert one["status"] == 0 and [rank["status"] for rank in two] == [0, 0], content
    assert two[1]["output"] == "", "one voice"
    [run] = (folder / "outputs" / "train").glob("*/*")
    assert sorted(p.name for p in run.iterdir()) == sorted(
        p.name for p in (folder / "one").iterdir()
    )
    assert read(run / "manifest.json")["hardware"]["processes"] == 2
    lines, others = (read_lines(folder / "metrics.jsonl") for folder in (folder / "one", run))
    assert len(lines) == len(others) > 30
    for line, other in zip(lines, others, strict=True):
        assert {k: v for k, v in line.items() if k in ("event", "step", "rows", "tokens")} == {
            k: v for k, v in other.items() if k in ("event", "step", "rows", "tokens")
        }
        if line["event"] == "step":
            assert other["loss"] == pytest.approx(line["loss"], rel=1e-4)
            assert other["gradient_norm"] == pytest.approx(line["gradient_norm"], rel=1e-3)
        elif line["event"] == "evaluated":
            assert other["metrics"]["loss"] == pytest.approx(line["metrics"]["loss"], rel=1e-4)
    assert {line["rows"] for line in others if line["event"] == "step"} == {7, 1}


def test_torchrun_ends_when_a_rank_is_killed_and_the_job_resumes_to_the_same_bits(runs):
    folder, content = runs
    status, out, err = content["killed"]
    assert status == 1 and out == "" and "Signal 9 (SIGKILL)" in err, err
    assert [rank["status"] for rank in content["after a kill"]] == [0, 0], content["after a kill"]
    assert outcome(folder / "killed") == outcome(folder / "whole")


def test_a_signal_to_one_stops_them_all_and_they_resume_to_the_same_bits(runs):
    folder, content = runs
    whole, stopped, again = content["whole"], content["stopped"], content["after a signal"]
    assert [rank["status"] for rank in whole] == [0, 0], whole
    assert [rank["status"] for rank in stopped] == [143, 143], stopped
    assert "stopped by SIGTERM. Resume with bertft train resume=" in stopped[0]["output"]
    assert stopped[1]["output"] == ""
    assert [rank["status"] for rank in again] == [0, 0], again
    assert again[0]["output"].count("warning") == 0
    assert same(outcome(folder / "stopped"), outcome(folder / "whole"))


def test_two_processes_share_the_output_of_frozen_layers(runs):
    """The first computes and stores it, the second reads it, and so does a later run of one."""
    folder, content = runs
    assert [rank["status"] for rank in content["two, stored"]] == [0, 0], content["two, stored"]
    assert content["one, stored"]["status"] == 0, content["one, stored"]
    assert len(list((folder / "rows" / "frozen").glob("*.arrow"))) == 3  # train, validation, test
    results = []
    for name in ("stored1", "stored2"):
        assert read(folder / name / "manifest.json")["cache_frozen"] is True
        results.append(
            [line["loss"] for line in read_lines(folder / name / "metrics.jsonl") if "loss" in line]
        )
    assert len(results[0]) >= 8 and results[1] == pytest.approx(results[0], rel=1e-4)


def test_two_processes_in_bf16(runs):
    """As one process to bf16's 8 bits, and after a stop to the same bits as without one."""
    folder, content = runs
    assert content["one, bf16"]["status"] == 0, content["one, bf16"]
    assert [rank["status"] for rank in content["two, bf16"]] == [0, 0], content["two, bf16"]
    assert [rank["status"] for rank in content["stopped, bf16"]] == [143, 143]
    assert [rank["status"] for rank in content["after it, bf16"]] == [0, 0], content[
        "after it, bf16"
    ]
    assert read(folder / "two16" / "manifest.json")["precision"] == "bf16"
    losses = [
        [line["loss"] for line in read_lines(folder / name / "metrics.jsonl") if "loss" in line]
        for name in ("one16", "two16")
    ]
    assert len(losses[0]) >= 12 and losses[1] == pytest.approx(losses[0], rel=2**-7)
    assert same(outcome(folder / "cut16"), outcome(folder / "two16"))


def test_a_folder_that_holds_a_run_is_refused_once(runs):
    refused = runs[1]["again"]
    assert [rank["status"] for rank in refused] == [2, 2], refused
    assert refused[0]["output"].count("contains a finished run") == 1
    assert refused[1]["output"] == ""


def same(one: dict[str, object], other: dict[str, object]) -> bool:
    """Except the additional checkpoints: a signal saves one more."""
    return {k: v for k, v in one.items() if k != "steps"} == {
        k: v for k, v in other.items() if k != "steps"
    }
