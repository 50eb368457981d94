"""Sweeps by launchers with processes of their own: what one process promises holds there too."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_runs import QUICK, outcome, run_bertft, write_task

import bertft

ROOT = Path(bertft.__file__).parents[1]
LAUNCHERS = {
    "joblib": ("hydra_plugins.hydra_joblib_launcher", ["hydra.launcher.n_jobs=2"]),
    "submitit_local": ("hydra_plugins.hydra_submitit_launcher", ["hydra.launcher.timeout_min=5"]),
}
JOBS = ("data.max_length=32,513", "seed=0")  # the second is more than the model takes

pytestmark = pytest.mark.slow


@pytest.fixture
def launched(work_dir, tmp_path_factory):
    """``launched(launcher, *words)``: the command line as a program, with homes of its own."""
    home = tmp_path_factory.mktemp("home")
    env = {
        **os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HOME": str(home),
        "TMPDIR": str(home / "tmp"),
    }  # fmt: skip
    (home / "tmp").mkdir()

    def begin(launcher, *words):
        module, launcher_settings = LAUNCHERS[launcher]
        pytest.importorskip(module)
        return subprocess.Popen(
            [sys.executable, "-m", "bertft", "train", "-m", f"hydra/launcher={launcher}",
             *launcher_settings, *words],
            cwd=work_dir, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    begin.home = home
    return begin


def rows(folder):
    with open(folder / "summary.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def job(folder, setting):
    """The folder of the job with this setting."""
    (actual,) = (
        file.parent
        for file in folder.glob("*/job.json")
        if setting in [f"{k}={v}" for k, v in json.loads(file.read_text())["overrides"].items()]
    )
    return actual


def take_back(process, sweep, setting):
    """Do to the job with this setting, once it has a checkpoint, what a queue does."""
    deadline = time.monotonic() + 900
    while not list(sweep.glob("*/checkpoints/step-*")):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.02)
    (controller,) = (
        log.parent.name for log in sweep.glob(".submitit/*/*_log.err") if setting in log.read_text()
    )
    (task,) = Path(f"/proc/{controller}/task/{controller}/children").read_text().split()
    os.kill(int(task), signal.SIGUSR2)


@pytest.mark.parametrize(
    "launcher", ["joblib", pytest.param("submitit_local", marks=pytest.mark.long)]
)
def test_a_sweep(launcher, launched, work_dir):
    """One job fails and one ends as it does alone, even if a queue took it back in between."""
    words = [
        *QUICK[:-1], *write_task(work_dir, "classification"), "quiet=true", "method=lora",
        "trainer.evaluate_every=40", "trainer.precision=fp32",
    ]  # fmt: skip
    taken_back = launcher == "submitit_local" and sys.platform.startswith("linux")
    words.append(f"trainer.max_steps={120 if taken_back else 40}")  # time enough to be taken back
    before = {path.name for path in work_dir.iterdir()}
    process = launched(launcher, *words, *JOBS, "hydra.sweep.dir=many")
    if taken_back:
        take_back(process, work_dir / "many", "data.max_length=32")
    out, err = process.communicate(timeout=900)
    content = (process.returncode, out, err)
    assert process.returncode == 5 and "1 of 2 jobs failed" in err, content
    assert "513 tokens are more than the model supports" in out and "Traceback" not in err, content
    lines = {row["data.max_length"]: row for row in rows(work_dir / "many")}
    assert lines["32"]["runs"] == "1" and lines["513"]["failed"] == "1"

    done = job(work_dir / "many", "data.max_length=32")
    log = (done / "log.txt").read_text(encoding="utf-8")
    assert ("interrupted by SIGUSR2 after step" in log) == taken_back
    assert (
        run_bertft("train", *words, "data.max_length=32", "seed=0", "hydra.run.dir=one").status == 0
    )
    aside = {"files": 0, "steps": 0}  # job.json; the checkpoint of the step that was interrupted
    assert outcome(done) | aside == outcome(work_dir / "one") | aside

    assert {path.name for path in work_dir.iterdir()} - before == {"many", "one"}
    left = [path for path in launched.home.rglob("*") if path.is_file()]
    assert [path for path in left if ".cache" not in path.parts] == []
    folders = {path.name for path in (launched.home / "tmp").iterdir()}
    assert not {name for name in folders if not name.startswith("torchinductor_")}  # torch's own
    inside = {path.name for path in (work_dir / "many").iterdir() if path.name.startswith(".")}
    assert inside == ({".submitit"} if launcher == "submitit_local" else set())
