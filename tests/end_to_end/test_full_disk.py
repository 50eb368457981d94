"""A full disk ends a run with status 4; what was saved before is as it was, and goes on."""

from __future__ import annotations

import errno
import os

import pytest
from small_runs import read, run_bertft, write_task

from bertft.utils import failpoints

LOOP = (
    "train", "model=tiny", "trainer.threads=1", "trainer.batch_size=8", "trainer.max_steps=12",
    "trainer.evaluate_every=4", "quiet=true", "report=false",
)  # fmt: skip


def full_at(start: str, turn: int):
    """A hook for which the disk is full at the ``turn``-th point that starts so, and stays so."""
    met = 0

    def hook(name: str) -> None:
        nonlocal met
        met += name.startswith(start)
        if met >= turn and not name.startswith("remove"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return hook


def files(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    "start", ["write adapter.safetensors", "write state.safetensors", "create files.json",
              "rename step-8", "link last"],
)  # fmt: skip
def test_the_last_checkpoint_stays_whole(work_dir, start):
    words = [*LOOP, *write_task(work_dir, "classification"), "hydra.run.dir=run"]
    turn = {"rename step-8": 1, "create files.json": 3}.get(start, 2)  # the base is sealed too
    with failpoints.install_hook(full_at(start, turn)):
        result = run_bertft(*words)
    assert result.status == 4 and result.err.count("error: ") == 1 and "Traceback" not in result.err
    assert "Make room on the disk" in result.err, result
    assert not (work_dir / "run" / "metrics.json").exists()
    whole = work_dir / "whole"
    assert run_bertft(*words[:-1], f"hydra.run.dir={whole}").status == 0
    assert (work_dir / "run" / "checkpoints" / "last").resolve().name in ("step-4", "step-8")
    result = run_bertft("train", "resume=run")
    assert result.status == 0, result
    for name in ("last", "best"):
        actual, expected = (f / "checkpoints" / name for f in (work_dir / "run", whole))
        assert actual.resolve().name == expected.resolve().name
        weights = [(folder / "adapter.safetensors").read_bytes() for folder in (actual, expected)]
        assert weights[0] == weights[1]
    assert (work_dir / "run/metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize("start", ["create check_rows.jsonl", "rename base", "create config.yaml"])
def test_full_before_the_run_is_started(work_dir, start):
    words = [*LOOP, *write_task(work_dir, "classification"), "hydra.run.dir=run"]
    with failpoints.install_hook(full_at(start, 1)):
        result = run_bertft(*words)
    assert result.status == 4 and "Traceback" not in result.err, result
    assert not [path for path in (work_dir / "run").iterdir() if path.name.startswith(".")]
    assert run_bertft(*words).status == 0


def test_full_when_the_result_is_written(work_dir):
    words = [*LOOP, *write_task(work_dir, "classification"), "hydra.run.dir=run"]
    with failpoints.install_hook(full_at("create metrics.json", 1)):
        assert run_bertft(*words).status == 4
    result = run_bertft("train", "resume=run")
    assert result.status == 0 and read(work_dir / "run" / "metrics.json")["train"]["steps"] == 12, (
        result
    )


def test_full_while_the_base_is_written(work_dir, monkeypatch):
    import safetensors

    def full(*_, **__):
        raise safetensors.SafetensorError("Error: No space left on device (os error 28)")

    monkeypatch.setattr("transformers.modeling_utils.safe_save_file", full)
    result = run_bertft(*LOOP, *write_task(work_dir, "classification"), "hydra.run.dir=run")
    assert result.status == 4 and "run/base: cannot be written" in result.err, result
    assert list((work_dir / "run").iterdir()) == []
