"""A sweep of real runs: repeated it does nothing. In other processes: test_launchers.py."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest
from small_runs import read, run_bertft, write_task

from bertft.config import job_name

SWEEP = (
    "model=tiny", "trainer.threads=1", "trainer.batch_size=8", "trainer.max_steps=10", "quiet=true",
    "trainer.evaluate_every=5", "report=false",
    "method=lora,svd_lora", "seed=0,1", "hydra.sweep.dir=sweep",
)  # fmt: skip


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "summary.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def jobs(folder: Path) -> dict[str, Path]:
    return {path.name: path for path in folder.iterdir() if path.is_dir()}


def test_a_sweep(work_dir):
    words = ("train", "-m", *write_task(work_dir, "classification"), *SWEEP)
    result = run_bertft(*words)
    assert result.status == 0, result
    actual = rows(work_dir / "sweep")
    assert [(row["method"], row["runs"], row["failed"]) for row in actual] == [
        ("lora", "2", "0"), ("svd_lora", "2", "0")
    ]  # fmt: skip
    assert {row["best"] for row in actual} == {"true", "false"}
    values: dict[str, list[float]] = {"lora": [], "svd_lora": []}
    for name, path in jobs(work_dir / "sweep").items():
        values[name.partition("-")[0]].append(read(path / "metrics.json")["best"]["value"])
    for row in actual:
        assert float(row["mean"]) == pytest.approx(sum(values[row["method"]]) / 2)
        assert float(row["peak_memory_bytes"]) > 50e6 and float(row["seconds"]) > 0
    assert {int(row["parameters"]) for row in actual} == {4096, 4 * 12 * 129}
    assert "svd_lora" in result.out and "summary.md" in result.err

    before = {path: path.stat().st_mtime_ns for path in work_dir.glob("sweep/*/*")}
    again = run_bertft(*words)
    assert again.status == 0 and again.err.count("already finished") == 4, again
    after = {path: path.stat().st_mtime_ns for path in work_dir.glob("sweep/*/*")}
    changed = {path.name for path in after if after[path] != before.get(path)}
    assert changed <= {"job.json"}

    # One that was cut off goes on; the others stay.
    cut = sorted(jobs(work_dir / "sweep").values())[0]
    expected = (cut / "metrics.jsonl").read_bytes()
    (cut / "metrics.json").unlink()
    third = run_bertft(*words)
    assert third.status == 0 and third.err.count("already finished") == 3, third
    assert (cut / "metrics.jsonl").read_bytes() == expected
    assert rows(work_dir / "sweep")[0]["runs"] == "2"


def test_a_job_that_fails_leaves_the_others_alone(work_dir):
    data = write_task(work_dir, "classification")
    words = ("train", "-m", *data, *SWEEP[:-3], "method=lora", "hydra.sweep.dir=sweep")
    result = run_bertft(*words, "data.max_length=32,513")
    assert (
        result.status == 5 and result.err.count("513 tokens are more than the model supports") >= 1
    )
    assert "Traceback" not in result.err and "1 of 2 jobs failed" in result.err
    content = {row["data.max_length"]: row for row in rows(work_dir / "sweep")}
    assert content["32"]["runs"] == "1" and content["513"]["failed"] == "1"
    assert "513" in content["513"]["error"]
    broken = [
        path for path in jobs(work_dir / "sweep").values() if not (path / "metrics.json").exists()
    ]
    assert [path.name for path in broken[0].iterdir()] == ["job.json"]


def test_a_changed_file_makes_other_jobs(work_dir):
    """Their size and time stay as they were; results of the two files are never averaged."""
    data = write_task(work_dir, "classification")
    words = ("train", "-m", *data, *SWEEP[:-3], "method=head", "hydra.sweep.dir=sweep")
    assert run_bertft(*words, "seed=0").status == 0
    file = work_dir / "train.csv"
    before, text = file.stat(), file.read_text(encoding="utf-8")
    file.write_text(text.replace("good", "fair"), encoding="utf-8")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    job_name._cached_sha256.cache_clear()  # another process, to which size and time say nothing
    result = run_bertft(*words, "seed=0,1")
    assert result.status == 0 and "already finished" not in result.err, result
    actual = rows(work_dir / "sweep")
    assert sorted(row["runs"] for row in actual) == ["1", "2"]
    assert len({row["data.content"] for row in actual}) == 2
    result = run_bertft(*words, "seed=0,1")
    assert result.status == 0 and result.err.count("already finished") == 2, result
