"""``bertft train -m``: one run per combination of values, and a table of all results.

A job that fails does not stop the others. The table is built from the folders of the jobs, which
can run in this process, in other processes (``hydra/launcher=joblib``) or on other machines.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

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
from bertft.report.console import condensed_output
from bertft.report.result_rows import differing_settings, group_results
from bertft.report.sweep import JOB_FILE, print_summary, read_jobs, write_summary
from bertft.report.ties import mark_ties
from bertft.runs.metrics_json import read_metrics_json
from bertft.runs.run_folder import continue_hint
from bertft.training.signals import SCHEDULER_SIGNALS, InterruptOnSignal
from bertft.utils.atomic_io import atomic_write_text
from bertft.utils.messages import Problem, first_line, usage_error
from bertft.utils.numbers import format_clock
from bertft.utils.safe_files import read_json_object
from bertft.utils.status import IMPORT_STATUS, mute_status, show_status
from bertft.utils.terminal import print_escaped

__all__ = [
    "LauncherError",
    "SweepProgress",
    "SweepStopped",
    "job_folder",
    "launch_jobs",
    "report_finished_job",
    "run_job",
    "run_sweep",
]


register_schema()  # the processes of a launcher import this module and compose


Launcher = Callable[[Callable[[DictConfig], float | None]], None]  # calls it for every job


class SweepStopped(BaseException):
    """Carries StoppedBySignal through Hydra, which treats every Exception as a failed job."""


@dataclass
class SweepProgress:
    """What the jobs of a sweep have in common, also those in the processes of a launcher.

    A launcher copies the object into its processes, so its state is in files.

    Attributes:
        total: number of jobs; 0 if a sweeper chooses them.
        differing: names of the settings that differ between the jobs; empty: all.
        unfinished: folders of the jobs without a result before the sweep.
        start: when the sweep began, in seconds since the epoch.
        printed_dir: a temporary folder with one file per table or finding that a job has printed.
        printed: those that this process has printed.
    """

    total: int = 0
    differing: Collection[str] = ()
    unfinished: Collection[Path] = ()
    start: float = field(default_factory=time.time)
    printed_dir: Path | None = None
    printed: set[str] = field(default_factory=set)

    @classmethod
    def plan(cls, folder: Path, jobs: Sequence[SweepJob]) -> SweepProgress:
        settings = [_override_settings(job.overrides) for job in jobs]
        folders = [job_folder(folder, job) for job in jobs]
        unfinished = tuple(job_dir for job_dir in folders if not _has_result(job_dir))
        return cls(len(jobs), differing_settings(settings), unfinished)

    def add_printed(self, key: str) -> bool:
        """Record that a job prints ``key``; False if another job has printed it."""
        is_new = key not in self.printed
        self.printed.add(key)
        if is_new and self.printed_dir is not None:
            file = self.printed_dir / hashlib.sha256(key.encode(errors="replace")).hexdigest()
            try:
                file.touch(exist_ok=False)
            except FileExistsError:
                return False
            except OSError:  # on another machine
                pass
        return is_new

    def name_job(self, number: int, settings: Mapping[str, str]) -> str:
        """``job 2 of 4: method.rank=8``, from the ``number`` of the job, counted from 0."""
        shown = {name: value for name, value in settings.items() if name in self.differing}
        total = f" of {self.total}" if self.total else ""
        return f"job {number + 1}{total}: {_format_settings(shown or settings)}"

    def time_left(self, job_dir: Path) -> str:
        """An estimate when the job in ``job_dir`` starts; empty before the first one has finished.

        The mean time of the finished jobs, times the jobs that are left, divided by those that run
        at the same time.
        """
        durations, failed, running = [], 0, 1
        for other in self.unfinished:
            begin, end = _mtime(other / JOB_FILE), _mtime(other / "metrics.json")
            if other.name == job_dir.name or begin is None or begin < self.start - 1:
                continue
            if end is not None:
                durations.append(max(0.0, end - begin))
            elif _has_failed(other):
                failed += 1
            else:
                running += 1
        left = len(self.unfinished) - len(durations) - failed
        if not durations or left <= 0:
            return ""
        return f"about {format_clock(left * fmean(durations) / running)} left"


@dataclass(frozen=True)
class _JobRunner:
    """``run_job`` with what it needs to know of the sweep, in a form that a launcher can copy."""

    progress: SweepProgress

    def __call__(self, config: DictConfig) -> float | None:
        return run_job(config, self.progress)


def _print_to_stderr(text: str) -> None:
    print_escaped(text, stderr=True)


def _mtime(file: Path) -> float | None:
    try:
        return file.stat().st_mtime
    except OSError:
        return None


def _has_failed(folder: Path) -> bool:
    try:
        return read_json_object(folder / JOB_FILE).get("error") is not None
    except BertftError:
        return True


def run_job(
    config: DictConfig, progress: SweepProgress, log: Callable[[str], None] = _print_to_stderr
) -> float | None:
    """Run one job. Returns the best value of its metric for sweepers.

    None if the job failed, or stopped at trainer.stop_at. ``log`` is called with the name of the
    job when it starts, and with its error.
    """
    hydra = HydraConfig.get()
    folder, overrides = Path(hydra.runtime.output_dir), list(hydra.overrides.task)
    settings, content = _override_settings(overrides), content_digest(to_plain_dict(config))
    name = progress.name_job(hydra.job.num, settings)
    if folder.is_symlink():  # the folder of a sweep may come from somebody else
        log(
            f"{name}: {folder} is a symbolic link. A job writes only to folders of the sweep:"
            " replace the link by a folder"
        )
        return None
    if _has_metrics(folder):
        try:
            best = _best_value(folder)
        except BertftError as error:  # a damaged result is not overwritten
            _write_job_file(folder, settings, content, str(error))
            log(f"{name}: {error}")
            return None
        report_finished_job(folder, name, overrides, content, log)
        return best
    is_resumed = (folder / "manifest.json").is_file()
    details = [*(["resumed"] if is_resumed else []), *filter(None, [progress.time_left(folder)])]
    suffix = f" ({', '.join(details)})" if details else ""
    log(name + suffix)
    if is_resumed:
        OmegaConf.update(config, "resume", "auto")
    _write_job_file(folder, settings, content, None)
    try:
        problems = list(validate_config("train", to_plain_dict(config)))
        if problems:  # the sweeper chose this job just now
            raise usage_error(problems)
        with mute_status(bool(config.get("quiet"))), condensed_output(progress.add_printed):
            if "torch" not in sys.modules:
                show_status(IMPORT_STATUS)
            run = importlib.import_module("bertft.cli.commands.train").run
            run(build_settings("train", config, folder, overrides), folder)
        is_stopped = config.trainer.stop_at is not None and not _has_metrics(folder)
        return None if is_stopped else _best_value(folder)
    except StoppedBySignal as stopped:
        if stopped.signum in SCHEDULER_SIGNALS:  # after saving, let the launcher requeue the job
            signal.raise_signal(stopped.signum)
        raise SweepStopped(stopped) from None
    except BertftError as error:
        _write_job_file(folder, settings, content, str(error))
        log(f"{name}: {error}")
    except Exception as error:
        _write_job_file(folder, settings, content, f"{type(error).__name__}: {error}")
        traceback.print_exc()
    return None


def report_finished_job(
    folder: Path,
    name: str,
    words: Sequence[str],
    content: str,
    log: Callable[[str], None] = _print_to_stderr,
) -> None:
    """Record the overrides of this sweep for a finished job, for the table."""
    _write_job_file(folder, _override_settings(words), content, None)
    log(f"{name}: already finished")


def _has_metrics(folder: Path) -> bool:
    return os.path.lexists(folder / "metrics.json")


def _override_settings(words: Sequence[str]) -> dict[str, str]:
    return {
        key: unquote_value(value or "")
        for _, key, value in map(split_override, words)
        if not key.startswith(f"{OPEN_GROUP}/")
    }


def _format_settings(settings: Mapping[str, str]) -> str:
    return " ".join(f"{key}={value}" for key, value in settings.items())


def _best_value(folder: Path) -> float | None:
    """The best value in metrics.json. DataError if the file is damaged."""
    value = read_metrics_json(folder / "metrics.json")["best"]["value"]
    return None if value is None else float(value)


def _write_job_file(
    folder: Path, settings: Mapping[str, str], content: str, error: str | None
) -> None:
    """Atomically write job.json, which the table reads."""
    text = json.dumps(
        {"overrides": settings, "content": content, "error": error}, ensure_ascii=False, indent=1
    )
    atomic_write_text(folder / JOB_FILE, text)


class LauncherError(Exception):
    """The launcher failed after it had started jobs."""


def run_sweep(plan: SweepPlan, launch: Launcher) -> int:
    """Run the jobs of the plan with ``launch(run_job)``, then print and write their table.

    If the sweeper chooses the jobs, the table has every job in the folder.

    Raises:
        SweepError: a job has no result.
        StoppedBySignal: a signal stopped the sweep.
    """
    folder, jobs = plan.folder, plan.jobs
    for setting in ("check", "trainer.stop_at"):
        if any(OmegaConf.select(job.config, setting) for job in jobs or ()):
            raise usage_error([Problem(setting, "is not supported by a sweep", "Leave out -m")])
    names = _job_names(jobs) if jobs is not None else None
    progress = SweepProgress() if jobs is None else SweepProgress.plan(folder, jobs)
    stopped: StoppedBySignal | None = None
    launcher_problem = ""
    try:
        if jobs is None or not _report_if_all_finished(folder, jobs, progress):
            with TemporaryDirectory(prefix="bertft-sweep-") as printed_dir:
                progress.printed_dir = Path(printed_dir)
                launch_jobs(plan, launch, _JobRunner(progress))
    except SweepStopped as error:
        stopped = error.args[0]
    except StoppedBySignal as error:
        stopped = error
    except LauncherError as launcher_error:
        launcher_problem = str(launcher_error)
    results = read_jobs(folder)
    table_rows = mark_ties(group_results(results, LOWER_IS_BETTER))
    write_summary(folder, table_rows)
    print_summary(table_rows)
    if stopped is not None:
        hint = f"{continue_hint(folder)}; finished jobs are kept"
        raise StoppedBySignal(stopped.signum, hint=hint) from None
    failed = [
        job
        for job in results
        if job.metrics is None and (names is None or job.folder.name in names)
    ]
    unstarted = len(names - {job.folder.name for job in results}) if names is not None else 0
    if failed or unstarted or launcher_problem:
        total = len(results) if names is None else len(names)
        problem = f"{len(failed)} of {total} jobs failed"
        if unstarted:
            verb = "was" if unstarted == 1 else "were"
            problem = f"{problem} and {unstarted}" if failed else f"{unstarted} of {total} jobs"
            problem += f" {verb} not started"
        if not (failed or unstarted):
            started = "the job" if total == 1 else f"the {total} jobs"
            problem = f"{launcher_problem}; {started} that it started ended without an error"
        elif launcher_problem:
            problem += f" ({launcher_problem})"
        raise SweepError(
            problem,
            where=str(folder),
            hint=f"Fix the cause and repeat the command with hydra.sweep.dir={folder}:"
            " finished jobs are kept",
        )
    print_escaped(f"table: {folder / 'summary.md'}", stderr=True)
    return 0


def launch_jobs(
    plan: SweepPlan, launch: Launcher, run: Callable[[DictConfig], float | None]
) -> None:
    """Run the jobs of ``plan`` with ``launch(run)``.

    Raises UsageError if another launcher or sweeper starts no job, LauncherError if it fails
    later.
    """
    if plan.launcher == "basic" and plan.jobs is not None:
        launch(run)
        return
    group, name = ("launcher", plan.launcher) if plan.jobs else ("sweeper", plan.sweeper)
    before = _job_file_times(plan.folder)
    try:
        with InterruptOnSignal():
            launch(run)
    except BertftError:
        raise
    except Exception as error:
        reason = first_line(f"{type(error).__name__}: {error}")
        if _job_file_times(plan.folder) == before:
            raise UsageError(
                f"{name} could not start a job ({reason})",
                where=f"hydra/{group}",
                hint="HYDRA_FULL_ERROR=1 shows the traceback",
            ) from error
        raise LauncherError(f"{name} stopped before the sweep was complete: {reason}") from error


def _job_file_times(folder: Path) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in folder.glob(f"*/{JOB_FILE}")}


def _report_if_all_finished(
    folder: Path, jobs: Sequence[SweepJob], progress: SweepProgress
) -> bool:
    """Whether all jobs are finished, so that the launcher is not needed; they are reported."""
    folders = [job_folder(folder, job) for job in jobs]
    if not all(_has_result(job_folder) for job_folder in folders):
        return False
    for number, (job_dir, job) in enumerate(zip(folders, jobs, strict=True)):
        words = list(job.config.hydra.overrides.task)
        name = progress.name_job(number, _override_settings(words))
        report_finished_job(job_dir, name, words, content_digest(to_plain_dict(job.config)))
    return True


def job_folder(folder: Path, job: SweepJob) -> Path:
    """The run folder of a job of the sweep in ``folder``."""
    return folder / _folder_name(job)


def _folder_name(job: SweepJob) -> str:
    return job_folder_name(to_plain_dict(job.config))


def _has_result(folder: Path) -> bool:
    if folder.is_symlink():  # the job reports it
        return False
    try:
        read_metrics_json(folder / "metrics.json")
    except BertftError:
        return False
    return True


def _job_names(jobs: Sequence[SweepJob]) -> set[str]:
    names = [_folder_name(job) for job in jobs]
    duplicates = [job for job, name in zip(jobs, names, strict=True) if Counter(names)[name] > 1]
    if duplicates:
        shown = "; ".join(" ".join(job.overrides) for job in duplicates[:2])
        raise usage_error(
            [Problem("-m", f"two combinations are the same run ({shown})", "List each value once")]
        )
    return set(names)
