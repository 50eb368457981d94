"""doctor as a whole: without a network, and where training cannot work."""

from __future__ import annotations

import signal

import pytest
from small_runs import run_bertft

from bertft.cli.commands import train
from bertft.errors import SystemResourceError
from bertft.report import doctor


@pytest.fixture(autouse=True)
def short(monkeypatch):
    real = doctor.check_matmul
    monkeypatch.setattr(doctor, "check_matmul", lambda device: real(device, seconds=0.1))


def test_a_machine_that_trains(work_dir):
    result = run_bertft("doctor")
    assert result.status == 0, result
    words = " ".join(result.out.split())
    for name in (
        "versions",
        "CPU",
        "GPU",
        "Hub",
        "offline base model",
        "Hub login",
        "disk (runs)",
        "matmul",
    ):
        assert name in result.out
    assert "steps of a tiny BERT" in words and "HF_HUB_OFFLINE is set" in words
    assert result.out.splitlines()[-1].startswith("training works on this machine")
    assert list(work_dir.iterdir()) == [], "it leaves nothing"


def test_without_the_offline_base(monkeypatch):
    monkeypatch.setattr("bertft.models.source._packaged_minilm", lambda verify: None)
    result = run_bertft("doctor")
    assert result.status == 0 and "bertft[demo]" in " ".join(result.out.split()), result


@pytest.mark.parametrize(
    "error", [SystemResourceError("no space left", hint="Make room"), RuntimeError("kernel\nimage")]
)
def test_training_that_does_not_work(error, monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setattr(train, "run", fail)
    result = run_bertft("doctor")
    assert result.status == 4 and "failed checks: training" in result.err, result
    assert str(error).split("\n")[0].split(".")[0] in result.out
    assert "Traceback" not in result.err


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_is_no_finding(name, monkeypatch):
    def prepared(*_, **__):
        signal.raise_signal(getattr(signal, name))
        return prepare(*_, **__)

    prepare = train.prepare_run
    monkeypatch.setattr(train, "prepare_run", prepared)
    result = run_bertft("doctor")
    assert result.status == 128 + getattr(signal, name), result
    assert result.err == f"error: stopped by {name}\n"


def test_a_device_that_is_not_there():
    result = run_bertft("doctor", "device=cuda:77")
    assert result.status == 4 and "cuda:77" in result.out
    assert run_bertft("doctor", "device=tpu").refused
