"""Two ranks over gloo take the step that one process takes, whatever share of it each has."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bertft.errors import UsageError
from bertft.training.distributed import SINGLE_PROCESS, DistributedContext
from bertft.utils.distributed_env import DistributedEnv, read_distributed_env

JOB = Path(__file__).with_name("ranks_job.py")
NAMES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture(autouse=True)
def no_job(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def job():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {name: value for name, value in os.environ.items() if name not in NAMES}
    done = subprocess.run(
        [sys.executable, JOB, str(port)],
        capture_output=True,
        text=True,
        timeout=900,
        env={**env, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_gradients_are_those_of_one_process(job):
    shares = {}
    for name, case in job["cases"].items():
        assert case["off"] < (1e-10 if "float64" in name else 1e-5), (name, case)
        assert case["norm"] > 0.1, "there was something to compare"
        assert case["equal"], "both ranks hold the same bits"
        shares[name.partition(" float")[2]] = case["shares"]
    assert shares["64 8 8"] == [4, 4]
    assert shares["64 7 2"] == [4, 3]
    assert shares["64 1 4"] == [1, 0], "a rank without a row takes part"
    assert {tuple(case["none"]) for case in job["cases"].values()} == {(1, 1, 1)}, (
        "the parameter that nobody uses gets no gradient, and only that one"
    )


def test_scores_are_those_of_the_whole_set(job):
    for name in ("classification", "tagging"):
        assert job[f"logits of {name}"] == [True, True], "bit for bit, in the rows' order"
        assert job[f"few logits of {name}"] == [True, True], "a rank without a batch too"
    for name in ("classification", "masked_lm"):
        one, *both = job[f"metrics of {name}"]
        assert both == [one, one], "of masked tokens too, which are drawn"


def test_the_first_rank_draws_as_one_alone_and_the_other_does_not(job):
    assert job["draw"] == [True, False]


def test_a_signal_to_one_is_heard_by_all(job):
    assert job["signal"] == [[0], [15], [15]]


def test_a_rank_that_is_gone_is_reported(job):
    assert job["gone"].startswith("rank 0 of 2: another process of the job has ended")


def test_the_rank_is_that_of_torchrun(monkeypatch):
    assert read_distributed_env() == DistributedEnv(0, 0, 1)
    for name, value in zip(NAMES, ("3", "1", "4", "host", "29500"), strict=True):
        monkeypatch.setenv(name, value)
    assert read_distributed_env() == DistributedEnv(3, 1, 4)
    monkeypatch.setenv("RANK", "4")
    with pytest.raises(UsageError, match="invalid rank environment variables"):
        read_distributed_env()


def test_alone_nothing_is_waited_for():
    assert DistributedContext.initialize() is SINGLE_PROCESS
    assert (
        SINGLE_PROCESS.all_reduce_sum(3),
        SINGLE_PROCESS.all_reduce_max(1, 2),
        SINGLE_PROCESS.all_gather_objects([1]),
        SINGLE_PROCESS.broadcast_object(lambda: 5),
    ) == (
        3,
        [1, 2],
        [1],
        5,
    )
    assert list(range(5))[SINGLE_PROCESS.shard] == list(range(5))
    assert list(range(5))[DistributedContext(1, 2).shard] == [1, 3]
