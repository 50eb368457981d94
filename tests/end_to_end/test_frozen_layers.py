"""A run whose frozen layers are computed once (auto)."""

from __future__ import annotations

import shutil

from small_runs import QUICK, read, run_bertft, write_task


def test_eval_has_the_digits_of_training(work_dir, monkeypatch):
    """Also after the files are gone. test_every_choice.py does it for last_k, in bf16."""
    monkeypatch.setenv("BERTFT_CACHE", str(work_dir / "cache"))
    words = ["train", *QUICK, *write_task(work_dir, "classification"), "method=head"]
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
