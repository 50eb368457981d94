"""``bertft train``: fine-tune an encoder and leave a run folder."""

from __future__ import annotations

import shlex
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

from bertft.assembly import base
from bertft.assembly.manifest import read_manifest
from bertft.assembly.prepare import prepare_run
from bertft.assembly.warn import print_warning
from bertft.commands.train_end import finish_run
from bertft.commands.train_job import TrainingRun
from bertft.config.commands import TrainConfig
from bertft.config.printed import print_escaped
from bertft.config.resumed import read_run_config
from bertft.config.trainer import TrainerConfig
from bertft.listeners.trackers import check_tracker_packages
from bertft.reports.console import line_printer, plain_console
from bertft.reports.tables import (
    dry_run_lines,
)
from bertft.runs.checkpoints import CheckpointStore
from bertft.runs.folder import RunFolder
from bertft.runs.lock import exclusive_lock
from bertft.runs.result import read_metrics_json
from bertft.training.memory import PeakMemory
from bertft.training.ranks import DistributedContext
from bertft.training.signals import InterruptOnSignal, StopRequest
from bertft.training.trial import dry_run

__all__ = ["run"]


def run(config: TrainConfig, folder: Path) -> None:
    """Train as ``config`` says in ``folder``, or go on with the run there.

    Raises Stopped after a signal, the checkpoint saved; NonFiniteError; whatever input calls for.
    """
    check_tracker_packages(config.trainer.trackers)
    ranks, run_folder = DistributedContext.initialize(), RunFolder(folder)
    if config.check:
        _run_dry_run(config, ranks)
        return
    with exclusive_lock(run_folder.path) if ranks.is_main_process else nullcontext():
        _run_training(config, run_folder, ranks)


def _run_training(config: TrainConfig, run_folder: RunFolder, ranks: DistributedContext) -> None:
    ranks.barrier()  # none of them changes the folder before all have seen it
    is_resumed = config.resume is not None and run_folder.has_run
    run_folder.ensure_no_links()
    if not is_resumed:
        run_folder.ensure_no_run()
        distill = config.method.distill
        cuts_student = distill is not None and distill.student_layers is not None
        base.check_base_folder(config.model, run_folder, cuts_student)
    elif run_folder.is_finished and not _is_extended(config.trainer, run_folder):
        _print_finished(run_folder, ranks, config.report)
        return
    with PeakMemory() as memory:
        with StopRequest() as stop:
            try:
                recorded_manifest = read_manifest(run_folder) if is_resumed else None
                console = plain_console(quiet=config.quiet or not ranks.is_main_process)
                newest_checkpoint = ranks.broadcast_object(lambda: _find_newest_checkpoint(run_folder)) if is_resumed else None
                prepared = prepare_run(config, run_folder, recorded_manifest, line_printer(console), ranks, newest_checkpoint)
                job = TrainingRun(config, run_folder, prepared, ranks, console)
                if not is_resumed:
                    job.start()
                elif not job.resume(newest_checkpoint):
                    _print_finished(run_folder, ranks, config.report)
                    return
            finally:
                base.discard_base(run_folder)
            job.train(stop)
        with InterruptOnSignal():  # the last checkpoint is saved: nothing is lost
            finish_run(job, memory)
    ranks.shutdown()


def _find_newest_checkpoint(run_folder: RunFolder) -> Path | None:
    """The newest whole checkpoint; None where the run was stopped before its first one."""
    checkpoints = CheckpointStore(run_folder.checkpoints_dir)
    return checkpoints.find_checkpoint("last", with_state=True, warn=print_warning) if checkpoints.steps() else None


def _run_dry_run(config: TrainConfig, ranks: DistributedContext) -> None:
    """Tell what the run would need, from a few steps that leave nothing behind."""
    with InterruptOnSignal() as stop, TemporaryDirectory() as folder, PeakMemory() as memory:
        console = plain_console(quiet=config.quiet or not ranks.is_main_process)
        prepared = prepare_run(config, RunFolder(Path(folder)), None, line_printer(console), ranks)
        job = TrainingRun(config, RunFolder(Path(folder)), prepared, ranks, console)
        job.print_summary()
        trial = dry_run(job.build_loop(stop, None))
        [peak] = ranks.all_reduce_max(memory.peak(prepared.task_model.precision.device) or 0)
        ranks.shutdown()
    if ranks.is_main_process:
        for line in dry_run_lines(trial, prepared.total_steps, peak or None):
            print_escaped(line)


def _is_extended(trainer: TrainerConfig, run_folder: RunFolder) -> bool:
    """Whether more is asked for than the run in ``run_folder`` was last told."""
    recorded = read_run_config(run_folder.path).trainer
    return (trainer.epochs, trainer.max_steps) != (recorded.epochs, recorded.max_steps)


def _print_finished(run_folder: RunFolder, ranks: DistributedContext, report: bool) -> None:
    if not ranks.is_main_process:
        return
    steps = read_metrics_json(run_folder.metrics_path)["train"]["steps"]
    print_escaped(f"{run_folder.path} is finished, after {steps} steps; metrics.json has its result")
    if report and not run_folder.report_path.exists():  # a kill between the two, or a disk that was full
        print_escaped(f"it has no report: bertft report {shlex.quote(f'run={run_folder.path}')} makes it")
