"""Sweeps with a train command that takes no time: what runs, what is saved, what is printed."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import time
import types
from pathlib import Path

import pytest

import bertft
from bertft.cli.app import main
from bertft.cli.commands.sweep import SweepProgress
from bertft.errors import NonFiniteError, StoppedBySignal

ROOT = Path(bertft.__file__).parents[1]
SWEEP = ["train", "-m", "hydra.sweep.dir=s"]


def finish(folder, config, value):
    """Leave in ``folder`` what a finished run does, as far as a sweep reads it."""
    checkpoint = folder / "checkpoints" / "step-5"
    checkpoint.mkdir(parents=True, exist_ok=True)
    (checkpoint / "adapter.safetensors").write_bytes(b"x" * 100)
    (checkpoint / "state.safetensors").write_bytes(b"x" * 1000)
    metrics = {
        "best": {"metric": "accuracy", "value": value, "step": 5},
        "validation": {"accuracy": value},
        "test": None,
        "train": {
            "seconds": 2.0,
            "peak_memory_bytes": 3_000_000,
            "rows_per_second": 1.0,
            "tokens_per_second": 9.0,
            "steps": 5,
            "loss": 0.5,
        },
        "parameters": {
            **dict.fromkeys(("total", "trainable", "head", "kept", "exported"), 99),
            "method": 10 * (config.method.rank or 0),
        },
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))


class Fake:
    """A train command: ``fails`` decides by the configuration what is raised."""

    def __init__(self):
        self.calls, self.fails = [], lambda config: None

    def run(self, config, folder):
        self.calls.append((config.method.name, config.method.rank, config.seed, config.resume))
        (folder / "config.yaml").write_text(self.text(config))
        (folder / "manifest.json").write_text("{}")
        error = self.fails(config)
        if error is not None:
            raise error
        finish(folder, config, 0.8 + 0.01 * config.seed + (config.method.name == "svd_lora") / 10)

    @staticmethod
    def text(config):
        from omegaconf import OmegaConf

        return OmegaConf.to_yaml(OmegaConf.structured(config))


def summary(folder="s"):
    with open(Path(folder) / "summary.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_combination_runs_and_stands_in_the_table(fake, capsys):
    assert main([*SWEEP, "method=lora,svd_lora", "method.rank=2,8", "seed=0,1"]) == 0
    assert len(fake.calls) == 8
    rows = summary()
    assert [(r["method"], r["method.rank"], r["runs"]) for r in rows] == [
        ("lora", "2", "2"), ("lora", "8", "2"), ("svd_lora", "2", "2"), ("svd_lora", "8", "2")
    ]  # fmt: skip
    assert float(rows[0]["mean"]) == pytest.approx(0.805)
    assert float(rows[0]["std"]) == pytest.approx(0.01 / 2**0.5)
    assert (rows[0]["parameters"], rows[0]["bytes"]) == ("20", "100")
    assert (rows[0]["seconds"], rows[0]["peak_memory_bytes"]) == ("2.0", "3000000")
    assert [row["best"] for row in rows] == ["false", "false", "true", "false"]
    text = Path("s/summary.md").read_text(encoding="utf-8")
    assert "| svd_lora | 2 | 0.9050 ± 0.0071 | 2 |" in text
    assert "svd_lora" in capsys.readouterr().out


def test_jobs_are_counted_and_named_by_what_differs(fake, capsys):
    words = [*SWEEP, "trainer.epochs=2", "method.rank=2,8"]
    assert main([*words, "seed=0"]) == 0
    assert main([*words, "seed=0,1"]) == 0
    lines = re.sub(r"0:0\d left", "0:00 left", capsys.readouterr().err).splitlines()
    assert lines[:2] == ["job 1 of 2: method.rank=2", "job 2 of 2: method.rank=8 (about 0:00 left)"]
    jobs = [line for line in lines[2:] if line.startswith("job ")]
    assert jobs == [
        "job 1 of 4: method.rank=2 seed=0: already finished",
        "job 2 of 4: method.rank=2 seed=1",
        "job 3 of 4: method.rank=8 seed=0: already finished",
        "job 4 of 4: method.rank=8 seed=1 (about 0:00 left)",
    ]


def test_the_time_left_does_not_count_jobs_that_failed(fake, capsys):
    fake.fails = lambda config: NonFiniteError("NaN") if config.seed == 1 else None
    assert main([*SWEEP, "seed=0,1"]) == 5
    assert main([*SWEEP, "seed=0,1,2"]) == 5
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("job 3 of")]
    assert lines == ["job 3 of 3: seed=2"]  # no job has finished in this command


def test_a_job_that_was_interrupted_is_resumed(fake, capsys):
    fake.fails = lambda config: NonFiniteError("NaN") if config.seed == 1 else None
    assert main([*SWEEP, "seed=0,1"]) == 5
    fake.fails = lambda config: None
    assert main([*SWEEP, "seed=0,1"]) == 0
    assert "job 2 of 2: seed=1 (resumed)\n" in capsys.readouterr().err
    assert fake.calls[-1][-1] == "auto"


def test_the_best_run_and_its_path_come_last(fake, capsys):
    assert main([*SWEEP, "method=lora,svd_lora", "method.rank=2,8", "seed=0,1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3] == "best: method=svd_lora method.rank=2: accuracy 0.9050 ± 0.0071"
    assert lines[-2].startswith("tie with the best: method=svd_lora method.rank=8 (")
    assert lines[-1].startswith("best run (seed 1: 0.9100): s/svd_lora-r2-sample-s1-")
    ties = [row["tie"] for row in summary()]
    assert ties == ["false", "false", "", "true"]


def test_without_seeds_a_tie_is_unknown(fake, capsys):
    assert main([*SWEEP, "method=lora,svd_lora"]) == 0
    assert "unknown whether other rows tie" in capsys.readouterr().out
    assert [row["tie"] for row in summary()] == ["", ""]


def test_a_job_s_folder_is_named_by_its_configuration_not_its_number(fake):
    main([*SWEEP, "method.rank=2,8"])
    first = sorted(path.name for path in Path("s").iterdir() if path.is_dir())
    main(["train", "-m", "hydra.sweep.dir=t", "method.rank=4,8,2"])
    second = sorted(path.name for path in Path("t").iterdir() if path.is_dir())
    assert set(first) < set(second) and len(second) == 3
    assert first[0].startswith("lora-r2-sample-s0-")


def test_one_failure_leaves_the_others_alone(fake, capsys):
    fake.fails = lambda config: NonFiniteError("the loss was NaN") if config.seed == 1 else None
    assert main([*SWEEP, "method.rank=2,8", "seed=0,1,2"]) == 5
    assert len(fake.calls) == 6
    rows = summary()
    assert [(r["runs"], r["failed"], r["error"]) for r in rows] == [
        ("2", "1", "the loss was NaN")
    ] * 2
    out, err = capsys.readouterr()
    assert "1 failed" in out and "failed: method.rank=2: the loss was NaN" in out
    assert "2 of 6 jobs failed" in err and "hydra.sweep.dir=" in err
    assert "Traceback" not in err and "Error executing job" not in err


def test_a_bug_in_one_job_is_a_failed_row_too(fake, capsys):
    fake.fails = lambda config: ZeroDivisionError("by zero") if config.seed == 1 else None
    assert main([*SWEEP, "seed=0,1"]) == 5
    assert summary()[0]["error"] == "ZeroDivisionError: by zero"
    assert "Traceback" in capsys.readouterr().err


def test_nothing_but_failures(fake):
    fake.fails = lambda config: NonFiniteError("NaN")
    assert main([*SWEEP, "method.rank=2,8"]) == 5
    assert [(r["metric"], r["mean"], r["best"]) for r in summary()] == [("", "", "false")] * 2


def test_repeated_it_keeps_finished_jobs_and_resumes_started_ones(fake):
    fake.fails = lambda config: NonFiniteError("NaN") if config.seed == 1 else None
    assert main([*SWEEP, "seed=0,1"]) == 5
    fake.calls.clear()
    fake.fails = lambda config: None
    assert main([*SWEEP, "seed=0,1,2"]) == 0
    assert fake.calls == [("lora", 8, 1, "auto"), ("lora", 8, 2, None)]
    assert [(row["runs"], row["failed"], row["error"]) for row in summary()] == [("3", "0", "")]


def test_a_sweep_in_the_same_folder_keeps_the_table_of_all(fake):
    assert main([*SWEEP, "method.rank=2"]) == 0
    assert main([*SWEEP, "method.rank=4,8"]) == 0
    assert [row["method.rank"] for row in summary()] == ["2", "4", "8"]


def test_nothing_is_written_through_a_job_s_folder_that_is_a_link(fake, tmp_path, capsys):
    assert main([*SWEEP, "seed=0,1"]) == 0
    job = next(Path("s").glob("*-s0-*"))
    shutil.rmtree(job)
    (tmp_path / "elsewhere").mkdir()
    job.symlink_to(tmp_path / "elsewhere")
    assert main([*SWEEP, "seed=0,1"]) == 5
    assert "is a symbolic link" in capsys.readouterr().err
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_an_old_failure_does_not_fail_another_sweep(fake):
    fake.fails = lambda config: NonFiniteError("NaN") if config.method.rank == 2 else None
    assert main([*SWEEP, "method.rank=2"]) == 5
    assert main([*SWEEP, "method.rank=4,8"]) == 0
    assert [row["failed"] for row in summary()] == ["1", "0", "0"]


def test_combinations_that_cannot_be_are_reported_before_the_first_starts(fake, capsys):
    assert main([*SWEEP, "method=lora,head,svdlora", "method.rank=2,8", "trainer.epochs=x"]) == 2
    assert fake.calls == [] and not Path("s").exists()
    err = capsys.readouterr().err
    assert "trainer.epochs: 'x' is not a number" in err
    assert (
        "method.rank (method=head method.rank=2; method=head method.rank=8): is not supported"
        in err
    )
    assert "method (method=svdlora method.rank=2; method=svdlora method.rank=8): there is" in err


def test_the_same_run_twice(fake, capsys):
    assert main([*SWEEP, "seed=1,1"]) == 2
    assert "the same run" in capsys.readouterr().err and fake.calls == []


@pytest.mark.parametrize(("signum", "status"), [(2, 130), (15, 143)])
def test_a_signal_stops_the_sweep_and_the_table_shows_how_far_it_came(fake, capsys, signum, status):
    fake.fails = lambda config: StoppedBySignal(signum) if config.seed == 1 else None
    assert main([*SWEEP, "seed=0,1,2"]) == status
    assert len(fake.calls) == 2
    assert "Repeat the command with hydra.sweep.dir=" in capsys.readouterr().err
    assert [(row["runs"], row["failed"], row["error"]) for row in summary()] == [
        ("1", "1", "interrupted")
    ]


def test_paths_sweep_and_may_hold_anything(fake):
    for file in (Path("数据/a b.csv"), Path("c=d.csv")):
        file.parent.mkdir(exist_ok=True)
        file.touch()
    words = ["data=files", "data.train=数据/a b.csv,c=d.csv"]
    assert main([*SWEEP, *words]) == 0
    assert [row["data.train"] for row in summary()] == ["c=d.csv", "数据/a b.csv"]


def test_the_best_is_searched_for_among_runs_on_the_same_data(fake):
    assert main([*SWEEP, "method=lora,svd_lora", "data=sample,sample_pair"]) == 0
    best = {(row["data"], row["method"]) for row in summary() if row["best"] == "true"}
    assert best == {("sample", "svd_lora"), ("sample_pair", "svd_lora")}


def test_a_part_may_be_opened_in_a_sweep(fake):
    assert main([*SWEEP, "method=lora,prefix", "method.rank=null", "method.prefix.length=4"]) == 2
    assert main([*SWEEP, "method=lora,prefix", "+seed=0,1"]) == 0
    assert main([*SWEEP, "method=prefix", "method.prefix.length=4,8"]) == 0
    assert {row["method.prefix.length"] for row in summary()} == {"", "4", "8"}


def test_another_sweeper_chooses_as_it_goes(fake):
    assert main([*SWEEP, "hydra/sweeper=basic", "seed=0,1"]) == 0
    assert len(fake.calls) == 2 and summary()[0]["runs"] == "2"


def test_the_folder_may_have_any_name(fake):
    assert main(["train", "-m", "hydra.sweep.dir=a b,c=(数)", "seed=0,1"]) == 0
    assert summary("a b,c=(数)")[0]["runs"] == "2"


def test_the_default_folder(fake):
    assert main(["train", "-m", "seed=0,1"]) == 0
    (day,) = Path("outputs/sweep").iterdir()
    (folder,) = day.iterdir()
    assert {path.name for path in folder.iterdir() if path.is_file()} == {
        "multirun.yaml", "summary.csv", "summary.md"
    }  # fmt: skip


def test_a_finished_sweep_needs_no_launcher(fake, monkeypatch, capsys):
    assert main([*SWEEP, "seed=0,1"]) == 0
    monkeypatch.setattr("bertft.cli.app._run_hydra_app", lambda *_: pytest.fail("launched"))
    capsys.readouterr()
    assert main([*SWEEP, "seed=0,1"]) == 0
    assert capsys.readouterr().err.count("already finished") == 2 and summary()[0]["runs"] == "2"


def test_jobs_that_were_not_started_have_not_failed(fake, monkeypatch, capsys):
    fake.fails = lambda config: NonFiniteError("NaN") if config.seed == 1 else None
    assert main([*SWEEP, "seed=0,1"]) == 5
    monkeypatch.setattr("bertft.cli.app._run_hydra_app", lambda *_: None)  # starts no job
    capsys.readouterr()
    assert main([*SWEEP, "seed=0,1,2,3"]) == 5
    assert "1 of 4 jobs failed and 2 were not started. Fix" in capsys.readouterr().err
    assert main([*SWEEP, "seed=0,2"]) == 5
    assert "1 of 2 jobs was not started. Fix" in capsys.readouterr().err


def test_hydra_gets_each_job_s_metric(fake, monkeypatch):
    """What a sweeper that optimises asks for; None of a job that failed."""
    content = {}

    class Seen:
        def on_job_end(self, config, job_return, **_):
            content[config.seed] = job_return.return_value

        def __getattr__(self, name):  # Hydra's other events
            return lambda **_: None

    monkeypatch.setitem(sys.modules, "seen", types.SimpleNamespace(Seen=Seen))
    words = [*SWEEP, "+hydra.callbacks.seen._target_=seen.Seen"]
    fake.fails = lambda config: NonFiniteError("NaN") if config.seed == 2 else None
    assert main([*words, "seed=0,1,2"]) == 5
    assert content == {0: pytest.approx(0.8), 1: pytest.approx(0.81), 2: None}
    content.clear()
    fake.fails = lambda config: None
    assert main([*words, "seed=1,2"]) == 0
    assert content == {1: pytest.approx(0.81), 2: pytest.approx(0.82)}, "the first was done before"


def test_a_sweeper_that_fails_before_its_first_job(fake, monkeypatch, capsys):
    def fail(*_):
        raise AssertionError("its storage")

    monkeypatch.setattr("bertft.cli.app._run_hydra_app", fail)
    assert main([*SWEEP, "hydra/sweeper=basic", "seed=0,1"]) == 2
    err = capsys.readouterr().err
    assert "hydra/sweeper: basic could not start a job (AssertionError: its storage)" in err


def test_what_another_sweeper_chooses_is_checked_when_it_is_chosen(fake, capsys):
    assert main([*SWEEP, "hydra/sweeper=basic", "trainer.batch_size=0,8"]) == 5
    assert len(fake.calls) == 1
    failed = next(row for row in summary() if row["failed"] == "1")
    assert "trainer.batch_size: 0 is out of range" in failed["error"]


PROCESS = f"""
    import sys, types
    sys.path.insert(0, {str(Path(__file__).parent)!r})

    class Finder:  # every process of the launcher gets the train command of this test
        def find_spec(self, name, path=None, target=None):
            if name == "bertft.cli.commands.train":
                import importlib.machinery
                return importlib.machinery.ModuleSpec(name, self)

        def create_module(self, spec):
            return None

        def exec_module(self, module):
            import test_sweep
            fake = test_sweep.Fake()
            fake.fails = test_sweep.fails_in_a_process
            module.run = fake.run

    sys.meta_path.insert(0, Finder())
"""


def fails_in_a_process(config):
    """By the seed: 1 fails, 7 kills its process once another job is done."""
    if config.seed == 7:
        while not list(Path("s").glob("*/metrics.json")):
            time.sleep(0.01)
        os.kill(os.getpid(), 9)
    return NonFiniteError("NaN") if config.seed == 1 else None


@pytest.fixture
def in_processes(tmp_path):
    """Run a sweep of the fake command as a program, with joblib."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    (tmp_path / "sitecustomize.py").write_text(textwrap.dedent(PROCESS))

    def run(*words):
        return subprocess.run(
            [sys.executable, "-m", "bertft", *SWEEP, "hydra/launcher=joblib", *words],
            env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
            cwd=tmp_path, capture_output=True, text=True, timeout=900,
        )  # fmt: skip

    return run


def test_jobs_may_run_in_processes(in_processes, tmp_path):
    done = in_processes("hydra.launcher.n_jobs=2", "seed=0,1,2")
    assert done.returncode == 5, done.stderr
    rows = summary(tmp_path / "s")
    assert [(row["runs"], row["failed"], row["error"]) for row in rows] == [("2", "1", "NaN")]


def test_jobs_in_processes_have_their_total_and_name_only_what_differs(in_processes):
    done = in_processes("hydra.launcher.n_jobs=2", "trainer.epochs=2", "seed=0,2,3,4")
    assert done.returncode == 0, done.stderr
    names = sorted(line.partition(" (")[0] for line in done.stderr.splitlines() if "job " in line)
    assert names == [f"job {n} of 4: seed={seed}" for n, seed in enumerate((0, 2, 3, 4), 1)]
    last = next(line for line in done.stderr.splitlines() if line.startswith("job 4"))
    assert last.endswith("left)"), "two or three jobs have finished"


def test_a_table_is_printed_once_by_all_processes_of_a_sweep(tmp_path):
    jobs = [SweepProgress(printed_dir=tmp_path) for _ in range(2)]  # as a launcher copies it
    assert [job.add_printed("data") for job in jobs] == [True, False]
    assert [job.add_printed("other data") for job in reversed(jobs)] == [True, False]
    assert not jobs[0].add_printed("data")
    elsewhere = SweepProgress(printed_dir=tmp_path / "missing")  # on another machine
    assert [elsewhere.add_printed("data") for _ in range(2)] == [True, False]


def test_the_time_left_counts_jobs_that_run_at_the_same_time(tmp_path):
    folders = [tmp_path / str(number) for number in range(6)]
    progress = SweepProgress(total=6, unfinished=folders, start=1000.0)
    for folder, (begin, end, error) in zip(
        folders,
        [(1000, 1060, None), (1000, 1120, None), (1060, None, "NaN"), (1100, None, None)],
        strict=False,
    ):
        folder.mkdir()
        (folder / "job.json").write_text(json.dumps({"error": error}))
        os.utime(folder / "job.json", (begin, begin))
        if end is not None:
            (folder / "metrics.json").touch()
            os.utime(folder / "metrics.json", (end, end))
    # Left: one that runs, this one, and one that has not started. Two run, 90 s per job.
    assert progress.time_left(folders[4]) == "about 2:15 left"
    progress.start = 2000.0  # the files are of an earlier sweep
    assert progress.time_left(folders[4]) == ""


def test_a_process_that_is_killed_leaves_the_table_and_what_was_done(in_processes, tmp_path):
    done = in_processes("hydra.launcher.n_jobs=2", "seed=0,7,2")
    assert done.returncode == 5 and "Traceback" not in done.stderr, done.stderr
    problem = (
        r"\d of 3 jobs failed( and 1 was not started| and 2 were not started)? \(joblib stopped"
        " before the sweep was complete: TerminatedWorkerError"
    )
    assert re.search(problem, done.stderr), done.stderr
    assert "interrupted" in done.stdout and int(summary(tmp_path / "s")[0]["runs"]) >= 1
    again = in_processes("hydra.launcher.n_jobs=2", "seed=0,2")
    assert again.returncode == 0 and again.stderr.count("already finished") >= 1, again.stderr


def test_a_launcher_that_cannot_start(in_processes, tmp_path):
    done = in_processes("hydra.launcher.n_jobs=0", "seed=0,1")
    # A slow machine also shows the status.
    lines = [line for line in done.stderr.splitlines() if not line.endswith(" elapsed")]
    assert done.returncode == 2 and len(lines) == 1, done.stderr
    assert "hydra/launcher: joblib could not start a job (ValueError" in done.stderr
