"""A tracked run is the run it would be: what it writes beside, and what cannot stop it."""

from __future__ import annotations

import importlib.util

import pytest
from small_runs import QUICK, read, run_bertft, write_task

from bertft.training.callbacks import trackers


def test_a_package_that_is_missing_stops_before_anything(work_dir, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *more: None if name == "mlflow" else real(name, *more),
    )
    result = run_bertft("train", *QUICK, "trainer.trackers=[mlflow]", "hydra.run.dir=run")
    assert result.refused and 'pip install "bertft[tracking]"' in result.err, result
    assert not (work_dir / "run" / "manifest.json").exists()


def test_a_name_that_is_none():
    result = run_bertft("train", "trainer.trackers=[tensorbord]")
    assert result.refused and "Did you mean 'tensorboard'?" in result.err
    assert run_bertft("train", "trainer.trackers=tensorboard").refused
    assert run_bertft("train", "trainer.trackers=[tensorboard,tensorboard]").refused


def test_tensorboard_next_to_a_run(work_dir, trained):
    pytest.importorskip("tensorboard")
    plain = trained("classification")
    words = write_task(work_dir, "classification")
    result = run_bertft(
        "train", *QUICK, *words, "quiet=true", "trainer.trackers=[tensorboard]", "hydra.run.dir=run"
    )
    assert result.status == 0, result
    assert list((work_dir / "run" / "tracking" / "tensorboard").glob("events.*"))
    assert (work_dir / "run" / "metrics.jsonl").read_bytes() == (
        plain / "metrics.jsonl"
    ).read_bytes()


def test_one_that_fails_does_not_stop_the_run(work_dir, monkeypatch):
    pytest.importorskip("tensorboard")

    def fail(*_):
        raise ConnectionError("the server is gone")

    monkeypatch.setattr(trackers.Tracker, "_log_finite", fail)
    words = write_task(work_dir, "classification")
    result = run_bertft(
        "train", *QUICK, *words, "quiet=true", "trainer.trackers=[tensorboard]", "hydra.run.dir=run"
    )
    assert result.status == 0 and result.err.count("the server is gone") == 1, result
    assert "tensorboard failed at step" in (work_dir / "run" / "log.txt").read_text(
        encoding="utf-8"
    )
    assert read(work_dir / "run" / "metrics.json")["train"]["steps"] == 16
