"""``bertft train -m``: a run for each combination (``sweep_job``), and one table of them all.

One that fails leaves the others alone. All that the table needs is read from the folders, so jobs
may run in this process, in others (``hydra/launcher=joblib``) or on other machines.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bertft.commands.sweep_job import Halt, run_job, say_done_before
from bertft.config.content import content_digest
from bertft.config.job_folder import job_folder
from bertft.config.messages import Problem, usage_error
from bertft.config.plain import plain
from bertft.config.plan import Job, Plan
from bertft.config.printed import say
from bertft.config.tasks import LOWER_IS_BETTER
from bertft.errors import BertftError, Stopped, SweepFailed, UsageError
from bertft.reports.sweep import JOB_FILE, lines_of, read_jobs, show, write
from bertft.runs.result import read_result
from bertft.training.signals import EndingSignal

__all__ = ["sweep"]


class _Lost(Exception):
    """A job vanished without a word, and the launcher with it."""


def sweep(planned: Plan, launch: Callable[[Any], None]) -> int:
    """Let ``launch(run_job)`` run the jobs of the plan; show and write their table.

    Without jobs (a sweeper that chooses as it goes) every job in the folder counts.
    Raises SweepFailed if any has no result, Stopped after a signal.
    """
    folder, jobs = planned.folder, planned.jobs
    if any(job.config.get("check") for job in jobs or ()):
        raise usage_error([Problem("check", "tries one run", "Leave out -m")])
    names = _names(jobs) if jobs is not None else None
    stopped: Stopped | None = None
    lost = ""
    try:
        if jobs is None or not _all_done_before(folder, jobs):
            _run(planned, launch)
    except Halt as halt:
        stopped = halt.args[0]
    except Stopped as signal_here:
        stopped = signal_here
    except _Lost as one:
        lost = f" ({one})"
    results = read_jobs(folder)
    lines = lines_of(results, LOWER_IS_BETTER)
    write(folder, lines)
    show(lines)
    if stopped is not None:
        raise stopped
    failed = [
        job
        for job in results
        if job.metrics is None and (names is None or job.folder.name in names)
    ]
    unheard = len(names - {job.folder.name for job in results}) if names is not None else 0
    if failed or unheard or lost:
        total = len(results) if names is None else len(names)
        raise SweepFailed(
            f"{len(failed) + unheard} of {total} jobs failed{lost}", where=str(folder),
            hint=f"Mend what failed and repeat the command with hydra.sweep.dir={folder}:"
            " finished jobs are kept",
        )  # fmt: skip
    say(folder / "summary.md", stderr=True)
    return 0


def _run(planned: Plan, launch: Callable[[Any], None]) -> None:
    """UsageError where a launcher or sweeper of others starts nothing, _Lost where it gives up."""
    if planned.launcher == "basic" and planned.jobs is not None:
        launch(run_job)
        return
    group, name = ("launcher", planned.launcher) if planned.jobs else ("sweeper", planned.sweeper)
    before = _begun(planned.folder)
    try:
        with EndingSignal():
            launch(run_job)
    except BertftError:
        raise
    except Exception as error:
        why = f"{type(error).__name__}: {error}".split("\n")[0]
        if _begun(planned.folder) == before:
            raise UsageError(
                f"{name} could not start a job ({why})", where=f"hydra/{group}",
                hint="HYDRA_FULL_ERROR=1 shows where that comes from",
            ) from error  # fmt: skip
        raise _Lost(f"{name} lost one: {why}") from error


def _begun(folder: Path) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in folder.glob(f"*/{JOB_FILE}")}


def _all_done_before(folder: Path, jobs: Sequence[Job]) -> bool:
    """Whether nothing is left to run, for which no queue need be asked."""
    folders = [folder / job_folder(plain(job.config)) for job in jobs]
    if not all(_is_done(each) for each in folders):
        return False
    for number, (each, job) in enumerate(zip(folders, jobs, strict=True)):
        words = list(job.config.hydra.overrides.task)
        say_done_before(each, f"job {number}", words, content_digest(plain(job.config)))
    return True


def _is_done(folder: Path) -> bool:
    if folder.is_symlink():  # the job refuses it
        return False
    try:
        read_result(folder / "metrics.json")
    except BertftError:
        return False
    return True


def _names(jobs: Sequence[Job]) -> set[str]:
    names = [job_folder(plain(job.config)) for job in jobs]
    twice = [job for job, name in zip(jobs, names, strict=True) if Counter(names)[name] > 1]
    if twice:
        shown = "; ".join(" ".join(job.overrides) for job in twice[:2])
        raise usage_error(
            [Problem("-m", f"two combinations are the same run ({shown})", "Give each value once")]
        )
    return set(names)
