"""The runs of the leaderboard: train what is missing, one line of JSON per run.

A line has the task, the method, the budget, the rate, the seed, the value of the metric, the
parameters, wall and CPU time, peak memory, and the versions, so that the file can grow on several
machines and over months. What is in the file is not run again.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.leaderboard.entries import (
    BUDGETS,
    RATE_FACTORS,
    RATE_LIMITS,
    Method,
    Run,
    RunKey,
    Task,
)

__all__ = ["Results", "RunFailed", "pending_runs", "run_training", "train"]

_ROOT = Path(__file__).parents[2]
_PEFT_PRESETS = Path(__file__).parent / "peft_plugin" / "conf"
_TUNING_SEED = 1000  # not a seed of the table


class RunFailed(Exception):
    """The last line that a run printed to stderr."""


class Results:
    """The lines of ``file``, by what identifies a run."""

    def __init__(self, file: Path) -> None:
        self.file = file
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        self.records: list[dict[str, Any]] = [json.loads(line) for line in lines]
        self._values = {_key(record): float(record["value"]) for record in self.records}

    def __contains__(self, run: Run) -> bool:
        return run.key in self._values

    def value(self, run: Run) -> float:
        return self._values[run.key]

    def add(self, run: Run, measured: dict[str, Any]) -> None:
        record = {**run.key._asdict(), **measured}
        with self.file.open("a", encoding="utf-8") as out:
            out.write(json.dumps(record) + "\n")
        self.records.append(record)
        self._values[run.key] = float(record["value"])


def _key(record: dict[str, Any]) -> RunKey:
    return RunKey(**{name: record[name] for name in RunKey._fields})


def pending_runs(
    results: Results,
    tasks: list[Task],
    methods: list[Method],
    budgets: list[str],
    seeds: list[int],
) -> Iterator[Run]:
    """The runs that ``results`` lacks; the trials of the rate of a cell before its seeds.

    All methods get their first seed before one gets its second, so that an unfinished table
    compares methods over the same seeds. The rate of a cell is decided when its trials are done,
    which is why this is a generator: add the value of each run before the next one is drawn.
    """
    for seed in seeds:
        for task in tasks:
            for budget in budgets:
                for method in methods:
                    cell = Run(task, method, budget, 1.0, _TUNING_SEED, tuning=True)
                    while trials := [run for run in _trials(cell, results) if run not in results]:
                        yield from trials
                    factor = max(_trials(cell, results), key=results.value).rate_factor
                    run = replace(cell, rate_factor=factor, seed=seed, tuning=False)
                    if run not in results:
                        yield run


def _trials(cell: Run, results: Results) -> list[Run]:
    """The trials of a cell's rate, lowest first, as far as ``results`` determines them."""
    trials = [replace(cell, rate_factor=factor) for factor in RATE_FACTORS]
    while all(trial in results for trial in trials):
        best = max(trials, key=results.value).rate_factor
        lower, higher = best / 2, best * 2
        if best == trials[0].rate_factor and lower >= RATE_LIMITS[0]:
            trials.insert(0, replace(cell, rate_factor=lower))
        elif best == trials[-1].rate_factor and higher <= RATE_LIMITS[1]:
            trials.append(replace(cell, rate_factor=higher))
        else:
            break
    return trials


def train(run: Run, data: Path, threads: int, precision: str) -> dict[str, Any]:
    """Train ``run``, and return what is recorded of it. Raises RunFailed."""
    return {
        "rate": run.method.default_rate * run.rate_factor,
        "budget_parameters": BUDGETS[run.budget],
        **run_training(run.words(data), threads, precision),
    }


def run_training(words: Sequence[str], threads: int, precision: str) -> dict[str, Any]:
    """Train in a process of its own, and return what its files say.

    ``value`` is the metric of the best evaluation, ``last_value`` that of the last one, and
    ``events`` the kinds of events that the run recorded.

    Raises:
        RunFailed: The command ended with another status than 0.
    """
    with tempfile.TemporaryDirectory() as folder:
        _install_plugin(Path(folder) / "site")
        paths = [str(_ROOT), f"{folder}/site", os.environ.get("PYTHONPATH", "")]
        command = [
            sys.executable, "-m", "bertft", "train", *words, "report=false", "quiet=true",
            f"trainer.threads={threads}", f"trainer.precision={precision}",
            f"hydra.run.dir={folder}/run", f"--config-dir={_PEFT_PRESETS}",
        ]  # fmt: skip
        start, cpu = time.perf_counter(), _children_cpu_seconds()
        done = subprocess.run(
            command, capture_output=True, text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
        )  # fmt: skip
        if done.returncode:
            raise RunFailed(
                f"{' '.join(command)}\nstatus {done.returncode}: {done.stderr[-2000:].strip()}"
            )
        seconds, cpu = time.perf_counter() - start, _children_cpu_seconds() - cpu
        metrics = json.loads(Path(folder, "run", "metrics.json").read_text(encoding="utf-8"))
        manifest = json.loads(Path(folder, "run", "manifest.json").read_text(encoding="utf-8"))
        lines = Path(folder, "run", "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        events = [json.loads(line) for line in lines]
    metric = metrics["best"]["metric"]
    evaluated = [event["metrics"] for event in events if event["event"] == "evaluated"]
    return {
        "metric": metric,
        "value": metrics["best"]["value"],
        "last_value": evaluated[-1][metric],
        "events": sorted({event["event"] for event in events}),
        "parameters": metrics["parameters"],
        "steps": metrics["train"]["steps"],
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        "peak_memory_bytes": metrics["train"]["peak_memory_bytes"],
        "threads": threads,
        "precision": manifest["precision"],
        "versions": {"bertft": manifest["bertft"], **manifest["packages"]},
    }


def _children_cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _install_plugin(folder: Path) -> None:
    """The metadata of an installed package, with the entry point of peft's layers."""
    info = folder / "bertft_leaderboard-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: bertft-leaderboard\nVersion: 1.0\n", encoding="utf-8"
    )
    (info / "entry_points.txt").write_text(
        "[bertft.methods]\npeft_layers = benchmarks.leaderboard.peft_plugin:PEFT_LAYERS\n",
        encoding="utf-8",
    )
