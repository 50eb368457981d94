"""A search with real runs: a promoted trial is the uninterrupted run; killed, it ends the same."""

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
from small_runs import outcome, read, run_bertft, write_task

import bertft

pytest.importorskip("optuna")

ROOT = Path(bertft.__file__).parents[1]
RUNS = (
    "model=tiny", "trainer.threads=1", "trainer.batch_size=8", "trainer.max_steps=8",
    "trainer.evaluations=4",
)  # fmt: skip


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "summary.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_search(work_dir):
    """Two trials of svd_lora that exclude the default: one is promoted to the end."""
    data = write_task(work_dir, "classification")
    space = "tune.space.method.low_rank.learning_rate=tag(log,interval(1e-2,1e-1))"
    words = [*RUNS, *data, "method=svd_lora", "method.low_rank.interval=1"]
    result = run_bertft(
        "tune", *words, space, "tune.trials=2", "tune.seeds=[1]", "hydra.sweep.dir=s"
    )
    assert result.status == 0 and "Traceback" not in result.err, result
    assert "better than the default? " in result.out and "unknown" not in result.out, result
    content = rows(work_dir / "s")
    assert len(content) == 3 and [row["trial"] for row in content].count("") == 1
    [promoted] = [row for row in content if row["trial"] and row["accuracy all"]]
    folder = work_dir / "s" / promoted["folder"]
    assert "stopped after step 4 of 8" in (folder / "log.txt").read_text(encoding="utf-8")

    rate = f"method.low_rank.learning_rate={promoted['method.low_rank.learning_rate']}"
    whole = ["train", *words, rate, "report=false", "quiet=true", "hydra.run.dir=whole"]
    assert run_bertft(*whole).status == 0
    aside = {"files": 0}  # job.json
    assert outcome(folder) | aside == outcome(work_dir / "whole") | aside
    value = read(work_dir / "whole" / "metrics.json")["best"]["value"]
    assert float(promoted["accuracy all"]) == value

    best = next(row for row in content if "best" in row["note"])
    again = ["train", "config=s/best.yaml", "report=false", "quiet=true", "hydra.run.dir=again"]
    assert run_bertft(*again).status == 0
    assert outcome(work_dir / "again") | aside == outcome(work_dir / "s" / best["folder"]) | aside


@pytest.mark.long
@pytest.mark.parametrize("method", ["lora", "svd_lora", "prefix"])
def test_killed_at_random_moments_it_ends_with_the_same_table(work_dir, method, capsys):
    """Ten kills, one after the other, in one search."""
    words = [
        "tune", *RUNS, *write_task(work_dir, "classification"), f"method={method}",
        "tune.trials=6", "tune.seeds=[1]",
    ]  # fmt: skip
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def begin(folder):
        return subprocess.Popen(
            [sys.executable, "-m", "bertft", *words, f"hydra.sweep.dir={folder}"],
            cwd=work_dir, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    whole = begin("whole")
    start = time.monotonic()
    out, err = whole.communicate(timeout=900)
    assert whole.returncode == 0, (out, err)
    seconds, draw = time.monotonic() - start, random.Random(method)
    struck = 0
    for _ in range(10):
        process = begin("killed")
        # Most kills are after the imports; together they are as long as the whole search.
        time.sleep(draw.uniform(0.2, 0.35) * seconds)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=900)
        struck += process.returncode == -signal.SIGKILL
    again = begin("killed")
    out, err = again.communicate(timeout=900)
    assert again.returncode == 0 and "Traceback" not in err, (out, err)
    assert (work_dir / "killed" / "summary.csv").read_bytes() == (
        work_dir / "whole" / "summary.csv"
    ).read_bytes()
    for row in rows(work_dir / "whole"):
        if row["accuracy all"]:
            folders = [work_dir / name / row["folder"] for name in ("killed", "whole")]
            assert outcome(folders[0]) == outcome(folders[1])
    with capsys.disabled():
        print(f"\n{method}: {struck} of 10 kills struck; the search ended the same")
    assert struck >= 5
