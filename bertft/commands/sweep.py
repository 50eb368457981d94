"""``bertft train -m``: a run for each combination, and one table of them all.

    job folder    <sweep>/<slug>-<hash of the config>, holding job.json beside the run
    job.json      {"overrides": {setting: value}, "error": null or why it failed}

A job whose folder holds metrics.json is done and skipped; one that was begun goes on; one that
fails leaves the others alone. All that the table needs is read from the folders, so jobs may run
in this process, in others (``hydra/launcher=joblib``) or on other machines.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from bertft.config.command_line import OPEN, split, unquoted
from bertft.config.compose import register_schema, settings_of
from bertft.config.job_folder import job_folder
from bertft.config.messages import Problem, usage_error
from bertft.config.plain import plain
from bertft.config.plan import Job
from bertft.errors import BertftError, Stopped, SweepFailed
from bertft.reports.sweep import JOB_FILE, lines_of, read_jobs, show, write

__all__ = ["run_job", "sweep"]

register_schema()  # a launcher's processes import this module and compose there


class _Halt(BaseException):
    """Carries ``Stopped`` past Hydra, which takes every Exception for one job's failure."""


def sweep(folder: Path, jobs: Sequence[Job] | None, launch: Callable[[Any], None]) -> int:
    """Let ``launch(run_job)`` run the ``jobs`` under ``folder``; show and write their table.

    Without ``jobs`` (a sweeper that chooses as it goes) every job in the folder counts.
    Raises SweepFailed if any has no result, Stopped after a signal.
    """
    if any(job.config.get("check") for job in jobs or ()):
        raise usage_error([Problem("check", "tries one run", "Leave out -m")])
    names = _names(jobs) if jobs is not None else None
    stopped: Stopped | None = None
    try:
        launch(run_job)
    except _Halt as halt:
        stopped = halt.args[0]
    results = read_jobs(folder)
    lines = lines_of(results, _lower_is_better())
    write(folder, lines)
    show(lines)
    if stopped is not None:
        raise stopped
    failed = [
        job
        for job in results
        if job.metrics is None and (names is None or job.folder.name in names)
    ]
    if failed:
        total = len(results) if names is None else len(names)
        raise SweepFailed(
            f"{len(failed)} of {total} jobs failed", where=str(folder),
            hint=f"Mend what failed and repeat the command with hydra.sweep.dir={folder}:"
            " finished jobs are kept",
        )  # fmt: skip
    print(f"{folder / 'summary.md'}", file=sys.stderr)
    return 0


def run_job(config: DictConfig) -> None:
    """Hydra's task: one job in its folder."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    words = list(HydraConfig.get().overrides.task)
    settings = {
        key: unquoted(value or "")
        for _, key, value in map(split, words)
        if not key.startswith(f"{OPEN}/")
    }
    name = f"job {HydraConfig.get().job.num}: {' '.join(f'{k}={v}' for k, v in settings.items())}"
    if (folder / "metrics.json").is_file():
        _note(folder, settings, None)
        print(f"{name}: done before", file=sys.stderr)
        return
    print(name, file=sys.stderr)
    if (folder / "manifest.json").is_file():
        OmegaConf.update(config, "resume", "auto")
    _note(folder, settings, None)
    try:
        run = importlib.import_module("bertft.commands.train").run
        run(settings_of("train", config, folder, words), folder)
    except Stopped as stopped:
        raise _Halt(stopped) from None
    except BertftError as error:
        _note(folder, settings, str(error))
        print(f"{name}: {error}", file=sys.stderr)
    except Exception as error:
        _note(folder, settings, f"{type(error).__name__}: {error}")
        traceback.print_exc()


def _names(jobs: Sequence[Job]) -> set[str]:
    names = [job_folder(plain(job.config)) for job in jobs]
    twice = [job for job, name in zip(jobs, names, strict=True) if Counter(names)[name] > 1]
    if twice:
        shown = "; ".join(" ".join(job.overrides) for job in twice[:2])
        raise usage_error(
            [Problem("-m", f"two combinations are the same run ({shown})", "Give each value once")]
        )
    return set(names)


def _note(folder: Path, settings: Mapping[str, str], error: str | None) -> None:
    """Write job.json whole or not at all."""
    text = json.dumps({"overrides": settings, "error": error}, ensure_ascii=False, indent=1)
    temporary = folder / f".{JOB_FILE}.{os.getpid()}"
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(folder / JOB_FILE)


def _lower_is_better() -> frozenset[str]:
    from bertft.tasks.task import BaseTask

    return BaseTask.lower_is_better
