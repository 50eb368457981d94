"""The helpers themselves: what hangs or ends too early is reported as that."""

from __future__ import annotations

from functools import cache

import pytest
import small_runs


@pytest.fixture
def helper(monkeypatch, tmp_path):
    """``helper(program)``: crash() asks this program from now on."""

    def use(program: str) -> None:
        (tmp_path / "helper.py").write_text(program, encoding="utf-8")
        monkeypatch.setattr(small_runs, "CRASH", tmp_path / "helper.py")
        monkeypatch.setattr(small_runs, "_crashing", cache(small_runs._crashing.__wrapped__))

    return use


def test_a_job_that_hangs_is_killed_and_named(helper):
    helper("import time; time.sleep(600)")
    with pytest.raises(AssertionError, match=r"more than 0\.1 s and was killed: train seed=1 \(fa"):
        small_runs.crash([(["train", "seed=1"], "SIGTERM:2", 2)], limit=0.1)


def test_a_helper_that_fails_shows_why(helper):
    helper("import sys; sys.stdin.readline(); 1 / 0")
    with pytest.raises(AssertionError, match=r"train \(fault: None(.|\n)*ZeroDivisionError"):
        small_runs.crash([(["train"], None)])
