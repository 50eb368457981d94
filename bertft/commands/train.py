"""``bertft train``: fine-tune an encoder and leave a run folder."""

from __future__ import annotations

import shlex
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

from bertft.assembly import base
from bertft.assembly.manifest import read_manifest
from bertft.assembly.prepare import prepare
from bertft.assembly.warn import warn
from bertft.commands.train_end import finish
from bertft.commands.train_job import TrainJob
from bertft.config.commands import TrainConfig
from bertft.config.printed import say
from bertft.config.resumed import config_of_run
from bertft.config.trainer import TrainerConfig
from bertft.listeners.trackers import check_packages
from bertft.reports.console import line_printer, plain_console
from bertft.reports.tables import (
    trial_lines,
)
from bertft.runs.checkpoints import Checkpoints
from bertft.runs.folder import RunFolder
from bertft.runs.lock import alone
from bertft.runs.result import read_result
from bertft.training.memory import PeakMemory
from bertft.training.ranks import Ranks
from bertft.training.signals import EndingSignal, StopRequest
from bertft.training.trial import try_out

__all__ = ["run"]


def run(config: TrainConfig, folder: Path) -> None:
    """Train as ``config`` says in ``folder``, or go on with the run there.

    Raises Stopped after a signal, the checkpoint saved; NonFiniteError; whatever input calls for.
    """
    check_packages(config.trainer.trackers)
    ranks, place = Ranks.join(), RunFolder(folder)
    if config.check:
        _check(config, ranks)
        return
    with alone(place.path) if ranks.first else nullcontext():
        _train(config, place, ranks)


def _train(config: TrainConfig, place: RunFolder, ranks: Ranks) -> None:
    ranks.wait()  # none of them changes the folder before all have seen it
    going_on = config.resume is not None and place.begun
    place.refuse_links()
    if not going_on:
        place.refuse_a_run()
        distill = config.method.distill
        cut = distill is not None and distill.student_layers is not None
        base.check_place(config.model, place, cut)
    elif place.finished and not _longer(config.trainer, place):
        _say_finished(place, ranks, config.report)
        return
    with PeakMemory() as memory:
        with StopRequest() as stop:
            try:
                told = read_manifest(place) if going_on else None
                console = plain_console(quiet=config.quiet or not ranks.first)
                newest = ranks.told(lambda: _newest(place)) if going_on else None
                prepared = prepare(config, place, told, line_printer(console), ranks, newest)
                job = TrainJob(config, place, prepared, ranks, console)
                if not going_on:
                    job.begin()
                elif not job.go_on(newest):
                    _say_finished(place, ranks, config.report)
                    return
            finally:
                base.discard(place)
            job.train(stop)
        with EndingSignal():  # the last checkpoint is saved: nothing is lost
            finish(job, memory)
    ranks.leave()


def _newest(place: RunFolder) -> Path | None:
    """The newest whole checkpoint; None where the run was stopped before its first one."""
    checkpoints = Checkpoints(place.checkpoints)
    return checkpoints.find("last", with_state=True, warn=warn) if checkpoints.steps() else None


def _check(config: TrainConfig, ranks: Ranks) -> None:
    """Tell what the run would need, from a few steps that leave nothing behind."""
    with EndingSignal() as stop, TemporaryDirectory() as folder, PeakMemory() as memory:
        console = plain_console(quiet=config.quiet or not ranks.first)
        prepared = prepare(config, RunFolder(Path(folder)), None, line_printer(console), ranks)
        job = TrainJob(config, RunFolder(Path(folder)), prepared, ranks, console)
        job.show()
        trial = try_out(job.loop(stop, None))
        [peak] = ranks.most(memory.peak(prepared.adapted.precision.device) or 0)
        ranks.leave()
    if ranks.first:
        for line in trial_lines(trial, prepared.total, peak or None):
            say(line)


def _longer(trainer: TrainerConfig, place: RunFolder) -> bool:
    """Whether more is asked for than the run in ``place`` was last told."""
    told = config_of_run(place.path).trainer
    return (trainer.epochs, trainer.max_steps) != (told.epochs, told.max_steps)


def _say_finished(place: RunFolder, ranks: Ranks, report: bool) -> None:
    if not ranks.first:
        return
    steps = read_result(place.metrics)["train"]["steps"]
    say(f"{place.path} is finished, after {steps} steps; metrics.json has its result")
    if report and not place.report.exists():  # a kill between the two, or a disk that was full
        say(f"it has no report: bertft report {shlex.quote(f'run={place.path}')} makes it")
