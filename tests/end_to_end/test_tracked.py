"""A tracked run is the run it would be: what it writes beside, and what cannot stop it."""

from __future__ import annotations

import importlib.util

import pytest
from small_runs import QUICK, read, say, write_task

from bertft.training.callbacks import trackers


def test_a_package_that_is_missing_stops_before_anything(place, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *more: None if name == "mlflow" else real(name, *more),
    )
    said = say("train", *QUICK, "trainer.trackers=[mlflow]", "hydra.run.dir=run")
    assert said.refused and 'pip install "bertft[tracking]"' in said.err, said
    assert not (place / "run" / "manifest.json").exists()


def test_a_name_that_is_none():
    said = say("train", "trainer.trackers=[tensorbord]")
    assert said.refused and "Did you mean 'tensorboard'?" in said.err
    assert say("train", "trainer.trackers=tensorboard").refused
    assert say("train", "trainer.trackers=[tensorboard,tensorboard]").refused


def test_tensorboard_beside_a_run(place, trained):
    pytest.importorskip("tensorboard")
    plain = trained("classification")
    words = write_task(place, "classification")
    said = say(
        "train", *QUICK, *words, "quiet=true", "trainer.trackers=[tensorboard]", "hydra.run.dir=run"
    )
    assert said.status == 0, said
    assert list((place / "run" / "tracking" / "tensorboard").glob("events.*"))
    assert (place / "run" / "metrics.jsonl").read_bytes() == (plain / "metrics.jsonl").read_bytes()


def test_one_that_fails_does_not_stop_the_run(place, monkeypatch):
    pytest.importorskip("tensorboard")

    def fail(*_):
        raise ConnectionError("the server is gone")

    monkeypatch.setattr(trackers.Tracker, "_log_finite", fail)
    words = write_task(place, "classification")
    said = say(
        "train", *QUICK, *words, "quiet=true", "trainer.trackers=[tensorboard]", "hydra.run.dir=run"
    )
    assert said.status == 0 and said.err.count("the server is gone") == 1, said
    assert "tensorboard failed at step" in (place / "run" / "log.txt").read_text(encoding="utf-8")
    assert read(place / "run" / "metrics.json")["train"]["steps"] == 16
