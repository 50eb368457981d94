"""``bertft train -m``: a run for each combination (``sweep_job``), and one table of them all.

One that fails leaves the others alone. All that the table needs is read from the folders, so jobs
may run in this process, in others (``hydra/launcher=joblib``) or on other machines.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from bertft.config.compose import build_settings, register_schema
from bertft.config.job_name import content_digest, job_folder_name
from bertft.config.overrides import OPEN_GROUP, split_override, unquote_value
from bertft.config.serialize import to_plain_dict
from bertft.config.sweep_plan import SweepJob, SweepPlan
from bertft.config.task_facts import LOWER_IS_BETTER
from bertft.config.validation import validate_config
from bertft.errors import BertftError, StoppedBySignal, SweepError, UsageError
from bertft.report.result_rows import group_results
from bertft.report.sweep import JOB_FILE, print_summary, read_jobs, write_summary
from bertft.runs.metrics_json import read_metrics_json
from bertft.training.signals import SCHEDULER_SIGNALS, InterruptOnSignal
from bertft.utils.messages import Problem, usage_error
from bertft.utils.terminal import print_escaped

__all__ = [
    "SweepStopped",
    "report_finished_job",
    "run_job",
    "run_sweep",
]


register_schema()  # a launcher's processes import this module and compose there


class SweepStopped(BaseException):
    """Carries ``Stopped`` past Hydra, which takes every Exception for one job's failure."""


def run_job(config: DictConfig) -> float | None:
    """The best value of the job's metric, for sweepers that ask; None if it failed."""
    hydra = HydraConfig.get()
    folder, overrides = Path(hydra.runtime.output_dir), list(hydra.overrides.task)
    settings, content = _override_settings(overrides), content_digest(to_plain_dict(config))
    name = f"job {hydra.job.num}: {_format_settings(settings)}"
    if folder.is_symlink():  # a sweep's folder from elsewhere may hold a link of that name
        print_escaped(
            f"{name}: {folder}: is a link, and a job writes into the sweep alone", stderr=True
        )
        return None
    if os.path.lexists(folder / "metrics.json"):
        try:
            best = _best_value(folder)
        except BertftError as error:  # not trained again over what may be all that is left of it
            _write_job_file(folder, settings, content, str(error))
            print_escaped(f"{name}: {error}", stderr=True)
            return None
        report_finished_job(folder, name, overrides, content)
        return best
    print_escaped(name, stderr=True)
    if (folder / "manifest.json").is_file():
        OmegaConf.update(config, "resume", "auto")
    _write_job_file(folder, settings, content, None)
    try:
        problems = list(validate_config("train", to_plain_dict(config)))
        if problems:  # a sweeper that chooses as it goes has chosen it just now
            raise usage_error(problems)
        run = importlib.import_module("bertft.cli.commands.train").run
        run(build_settings("train", config, folder, overrides), folder)
        return _best_value(folder)
    except StoppedBySignal as stopped:
        if (
            stopped.signum in SCHEDULER_SIGNALS
        ):  # all is saved: now the one who listened may hear it
            signal.raise_signal(stopped.signum)
        raise SweepStopped(stopped) from None
    except BertftError as error:
        _write_job_file(folder, settings, content, str(error))
        print_escaped(f"{name}: {error}", stderr=True)
    except Exception as error:
        _write_job_file(folder, settings, content, f"{type(error).__name__}: {error}")
        traceback.print_exc()
    return None


def report_finished_job(folder: Path, name: str, words: Sequence[str], content: str) -> None:
    """The table then calls the job by the ``words`` of this sweep."""
    _write_job_file(folder, _override_settings(words), content, None)
    print_escaped(f"{name}: done before", stderr=True)


def _override_settings(words: Sequence[str]) -> dict[str, str]:
    return {
        key: unquote_value(value or "")
        for _, key, value in map(split_override, words)
        if not key.startswith(f"{OPEN_GROUP}/")
    }


def _format_settings(settings: Mapping[str, str]) -> str:
    return " ".join(f"{key}={value}" for key, value in settings.items())


def _best_value(folder: Path) -> float | None:
    """DataError where the job's result is damaged."""
    value = read_metrics_json(folder / "metrics.json")["best"]["value"]
    return None if value is None else float(value)


def _write_job_file(
    folder: Path, settings: Mapping[str, str], content: str, error: str | None
) -> None:
    """Write job.json whole or not at all."""
    text = json.dumps(
        {"overrides": settings, "content": content, "error": error}, ensure_ascii=False, indent=1
    )
    temporary = folder / f".{JOB_FILE}.{os.getpid()}"
    temporary.unlink(missing_ok=True)
    with temporary.open("x", encoding="utf-8") as file:  # not through a link of that name
        file.write(text)
    temporary.replace(folder / JOB_FILE)


class _LauncherError(Exception):
    """A job vanished without a word, and the launcher with it."""


def run_sweep(planned: SweepPlan, launch: Callable[[Any], None]) -> int:
    """Let ``launch(run_job)`` run the jobs of the plan; show and write their table.

    Without jobs (a sweeper that chooses as it goes) every job in the folder counts.
    Raises SweepFailed if any has no result, Stopped after a signal.
    """
    folder, jobs = planned.folder, planned.jobs
    if any(job.config.get("check") for job in jobs or ()):
        raise usage_error([Problem("check", "tries one run", "Leave out -m")])
    names = _job_names(jobs) if jobs is not None else None
    stopped: StoppedBySignal | None = None
    launcher_problem = ""
    try:
        if jobs is None or not _all_finished(folder, jobs):
            _launch_jobs(planned, launch)
    except SweepStopped as halt:
        stopped = halt.args[0]
    except StoppedBySignal as signal_here:
        stopped = signal_here
    except _LauncherError as launcher_error:
        launcher_problem = f" ({launcher_error})"
    results = read_jobs(folder)
    lines = group_results(results, LOWER_IS_BETTER)
    write_summary(folder, lines)
    print_summary(lines)
    if stopped is not None:
        raise stopped
    failed = [
        job
        for job in results
        if job.metrics is None and (names is None or job.folder.name in names)
    ]
    unstarted = len(names - {job.folder.name for job in results}) if names is not None else 0
    if failed or unstarted or launcher_problem:
        total = len(results) if names is None else len(names)
        raise SweepError(
            f"{len(failed) + unstarted} of {total} jobs failed{launcher_problem}",
            where=str(folder),
            hint=f"Mend what failed and repeat the command with hydra.sweep.dir={folder}:"
            " finished jobs are kept",
        )
    print_escaped(folder / "summary.md", stderr=True)
    return 0


def _launch_jobs(planned: SweepPlan, launch: Callable[[Any], None]) -> None:
    """UsageError where a launcher or sweeper of others starts nothing, _Lost where it gives up."""
    if planned.launcher == "basic" and planned.jobs is not None:
        launch(run_job)
        return
    group, name = ("launcher", planned.launcher) if planned.jobs else ("sweeper", planned.sweeper)
    before = _job_file_times(planned.folder)
    try:
        with InterruptOnSignal():
            launch(run_job)
    except BertftError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".split("\n")[0]
        if _job_file_times(planned.folder) == before:
            raise UsageError(
                f"{name} could not start a job ({reason})",
                where=f"hydra/{group}",
                hint="HYDRA_FULL_ERROR=1 shows where that comes from",
            ) from error
        raise _LauncherError(f"{name} lost one: {reason}") from error


def _job_file_times(folder: Path) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in folder.glob(f"*/{JOB_FILE}")}


def _all_finished(folder: Path, jobs: Sequence[SweepJob]) -> bool:
    """Whether nothing is left to run, for which no queue need be asked."""
    folders = [folder / job_folder_name(to_plain_dict(job.config)) for job in jobs]
    if not all(_has_result(each) for each in folders):
        return False
    for number, (job_dir, job) in enumerate(zip(folders, jobs, strict=True)):
        words = list(job.config.hydra.overrides.task)
        report_finished_job(
            job_dir, f"job {number}", words, content_digest(to_plain_dict(job.config))
        )
    return True


def _has_result(folder: Path) -> bool:
    if folder.is_symlink():  # the job refuses it
        return False
    try:
        read_metrics_json(folder / "metrics.json")
    except BertftError:
        return False
    return True


def _job_names(jobs: Sequence[SweepJob]) -> set[str]:
    names = [job_folder_name(to_plain_dict(job.config)) for job in jobs]
    duplicates = [job for job, name in zip(jobs, names, strict=True) if Counter(names)[name] > 1]
    if duplicates:
        shown = "; ".join(" ".join(job.overrides) for job in duplicates[:2])
        raise usage_error(
            [Problem("-m", f"two combinations are the same run ({shown})", "Give each value once")]
        )
    return set(names)
