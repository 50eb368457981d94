"""Runs whose frozen layers are computed once: eval has their digits, and seeds share the states."""

from __future__ import annotations

import shutil

import pytest
from small_runs import QUICK, read, run_bertft, write_task

METHODS = {
    "head": ("method=head",),
    "last_k": ("method=last_k", "method.base.last_k=1", "trainer.cache_frozen=true"),
}


@pytest.mark.parametrize("method", METHODS)
def test_eval_has_the_digits_of_training(work_dir, monkeypatch, method):
    monkeypatch.setenv("BERTFT_CACHE", str(work_dir / "cache"))
    words = ["train", *QUICK, *write_task(work_dir, "classification"), *METHODS[method]]
    result = run_bertft(*words, "hydra.run.dir=run")
    assert result.status == 0, result
    output = f"{result.out}{result.err}"
    assert output.count("dropout in them is off") == 1
    assert "frozen layers is computed once for 104 rows" in output
    assert read(work_dir / "run/manifest.json")["cache_frozen"] is True
    shutil.rmtree(work_dir / "cache" / "frozen")
    result = run_bertft("eval", "run=run", "hydra.run.dir=scores")
    assert result.status == 0, result
    metrics = read(work_dir / "run/metrics.json")
    assert read(work_dir / "scores/metrics.json")["validation"] == metrics["validation"]
    assert metrics["test"] is not None
    assert not (work_dir / "cache" / "frozen").exists()
