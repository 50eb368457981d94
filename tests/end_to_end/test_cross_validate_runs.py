"""A cross-validation with real runs: every row is predicted once, and it continues where it was."""

from __future__ import annotations

import csv
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_runs import opinion, outcome, read, read_lines, run_bertft, write_csv

import bertft

pytest.importorskip("sklearn")

ROOT = Path(bertft.__file__).parents[1]
RUNS = (
    "model=tiny", "trainer.threads=1", "trainer.batch_size=8", "trainer.max_steps=4",
    "trainer.precision=fp32", "report=false", "quiet=true", "folds=3",
)  # fmt: skip
FILES = ("out_of_fold.jsonl", "cross_validation.json", "summary.csv", "summary.md")


def write_rows(path: Path) -> list[tuple[str, str, str]]:
    draw = random.Random(5)
    rows = [
        (opinion(draw, bool(n % 2)), "pos" if n % 2 else "neg", f"p{n // 4}") for n in range(48)
    ]
    write_csv(path, ("text", "label", "who"), rows)
    return rows


def fold_folders(folder: Path) -> list[Path]:
    with open(folder / "summary.csv", encoding="utf-8", newline="") as file:
        return [folder / row["folder"] for row in csv.DictReader(file)]


def test_a_grouped_cross_validation(work_dir):
    rows = write_rows(work_dir / "a.csv")
    words = ("cross_validate", "a.csv", *RUNS, "data.group=who", "hydra.sweep.dir=s")
    result = run_bertft(*words)
    assert result.status == 0 and "Traceback" not in result.err, result
    assert "48 of 48 rows are predicted" in result.out and "accuracy" in result.out
    assert "job 2 of 3: data.fold=2" in result.err and " left)" in result.err
    lines = read_lines(work_dir / "s" / "out_of_fold.jsonl")
    assert [line["line"] for line in lines] == [*range(2, 50)], "every row once, in order"
    assert [line["true_label"] for line in lines] == [label for _, label, _ in rows]
    folds_of_group = {group: set() for _, _, group in rows}
    for line, (_, _, group) in zip(lines, rows, strict=True):
        folds_of_group[group].add(line["fold"])
        assert list(line) == ["line", "fold", "true_label", "label", "score", "scores"]
    assert all(len(folds) == 1 for folds in folds_of_group.values())

    # The metrics of a fold are those of its predictions, which bertft predict repeats.
    folders, metrics = fold_folders(work_dir / "s"), []
    for number, folder in enumerate(folders, 1):
        own = [line for line in lines if line["fold"] == number]
        right = [line["label"] == line["true_label"] for line in own]
        metrics.append(read(folder / "metrics.json")["test"]["accuracy"])
        assert metrics[-1] == pytest.approx(sum(right) / len(right))
    summary = read(work_dir / "s" / "cross_validation.json")["metrics"]["accuracy"]
    assert summary["values"] == metrics and summary["mean"] == pytest.approx(sum(metrics) / 3)
    own = [line for line in lines if line["fold"] == 1]
    write_csv(work_dir / "b.csv", ("text",), [[rows[line["line"] - 2][0]] for line in own])
    assert run_bertft("predict", folders[0], "b.csv", "output=b.jsonl").status == 0
    for line, answer in zip(own, read_lines(work_dir / "b.jsonl"), strict=True):
        assert list(answer) == ["label", "score", "scores"]
        assert answer["scores"] == pytest.approx(line["scores"], abs=1e-5)
    evaluated = run_bertft("eval", folders[1], "split=test", "report=false", "hydra.run.dir=e")
    assert evaluated.status == 0, evaluated
    assert read(work_dir / "e" / "metrics.json")["test"]["accuracy"] == metrics[1]

    # Repeated, nothing is run again; a fold that was killed before its end is.
    files = {name: (work_dir / "s" / name).read_bytes() for name in FILES}
    expected = outcome(folders[1])
    for name in ("metrics.json", "out_of_fold.npz"):
        (folders[1] / name).unlink()
    (folders[2] / "out_of_fold.npz").write_bytes(b"damaged")
    again = run_bertft(*words)
    assert again.status == 0 and again.err.count("already finished") == 2, again
    assert {name: (work_dir / "s" / name).read_bytes() for name in FILES} == files
    assert outcome(folders[1]) == expected
    folders[0].rename(work_dir / "elsewhere")  # a job writes only to folders of the sweep
    folders[0].symlink_to(work_dir / "elsewhere")
    linked = run_bertft(*words)
    assert linked.status == 5 and "1 of 3 folds have no result" in linked.err, linked


def test_rows_that_cannot_be_split(work_dir):
    """Errors before any work: nothing is written."""
    for name, content, message in (
        ("one.csv", "text,label\nx,a\ny,b\nz,c\nu,d\nv,e\n", "the largest class, 'a', has 1"),
        ("few.csv", "text,label\nx,a\ny,b\n", "3 folds need at least 3 rows, and there are 2"),
    ):
        (work_dir / name).write_text(content)
        result = run_bertft("cross_validate", name, *RUNS, "hydra.sweep.dir=s")
        assert result.refused and message in result.err, result
    write_rows(work_dir / "a.csv")
    for word, message in (
        ("data.group=whom", "no row has a value in the column 'whom'"),
        ("data.group=label", "has 2 distinct values"),
    ):
        result = run_bertft("cross_validate", "a.csv", *RUNS, word, "hydra.sweep.dir=s")
        assert result.refused and message in result.err, result
    assert not (work_dir / "s").exists()


@pytest.mark.long
def test_killed_at_random_moments_it_ends_with_the_same_files(work_dir):
    write_rows(work_dir / "a.csv")
    words = ("cross_validate", "a.csv", *RUNS, "trainer.max_steps=40", "repeats=2")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def begin(folder):
        return subprocess.Popen(
            [sys.executable, "-m", "bertft", *words, f"hydra.sweep.dir={folder}/s"],
            cwd=work_dir, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    start = time.monotonic()
    whole = begin("whole")
    out, err = whole.communicate(timeout=900)
    assert whole.returncode == 0, (out, err)
    seconds, draw, struck = time.monotonic() - start, random.Random(1), 0
    for _ in range(5):
        process = begin("killed")
        time.sleep(draw.uniform(0.4, 0.7) * seconds)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=900)
        struck += process.returncode == -signal.SIGKILL
    again = begin("killed")
    out, err = again.communicate(timeout=900)
    assert again.returncode == 0 and "Traceback" not in err, (out, err)
    for name in FILES:
        expected = (work_dir / "whole/s" / name).read_bytes()
        assert (work_dir / "killed/s" / name).read_bytes() == expected, name
    for folder in fold_folders(work_dir / "whole/s"):
        assert outcome(work_dir / "killed/s" / folder.name) == outcome(folder)
    assert struck >= 2
