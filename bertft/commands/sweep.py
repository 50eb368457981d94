"""``bertft train -m``: a run for each combination (``sweep_job``), and one table of them all.

One that fails leaves the others alone. All that the table needs is read from the folders, so jobs
may run in this process, in others (``hydra/launcher=joblib``) or on other machines.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bertft.commands.sweep_job import SweepStopped, run_job, report_finished_job
from bertft.config.content import content_digest
from bertft.config.job_folder import job_folder_name
from bertft.config.messages import Problem, usage_error
from bertft.config.plain import to_plain_dict
from bertft.config.plan import SweepJob, SweepPlan
from bertft.config.printed import print_escaped
from bertft.config.tasks import LOWER_IS_BETTER
from bertft.errors import BertftError, StoppedBySignal, SweepError, UsageError
from bertft.reports.sweep import JOB_FILE, group_results, read_jobs, print_summary, write_summary
from bertft.runs.result import read_metrics_json
from bertft.training.signals import InterruptOnSignal

__all__ = ["run_sweep"]


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
            f"{len(failed) + unstarted} of {total} jobs failed{launcher_problem}", where=str(folder),
            hint=f"Mend what failed and repeat the command with hydra.sweep.dir={folder}:"
            " finished jobs are kept",
        )  # fmt: skip
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
                f"{name} could not start a job ({reason})", where=f"hydra/{group}",
                hint="HYDRA_FULL_ERROR=1 shows where that comes from",
            ) from error  # fmt: skip
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
        report_finished_job(job_dir, f"job {number}", words, content_digest(to_plain_dict(job.config)))
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
