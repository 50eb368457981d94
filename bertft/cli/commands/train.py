"""``bertft train``: fine-tune an encoder and leave a run folder."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bertft.cli.commands.run_report import write_run_report
from bertft.cli.commands.training_run import TrainingRun
from bertft.config.command_configs import TrainConfig
from bertft.config.resume import read_run_config
from bertft.config.trainer import TrainerConfig
from bertft.pipeline import base_model, distillation
from bertft.pipeline.build import prepare_run
from bertft.pipeline.calibration import calibrate, is_calibration_requested
from bertft.pipeline.checkpoint import read_trained_weights
from bertft.pipeline.manifest import read_manifest
from bertft.pipeline.model import load_trained_weights
from bertft.report.console import line_printer, plain_console
from bertft.report.tables import dry_run_lines, result_lines, training_tables
from bertft.runs.checkpoints import CheckpointStore
from bertft.runs.metrics_json import read_metrics_json
from bertft.runs.run_folder import RunFolder, exclusive_lock
from bertft.training.callbacks.log_file import LogFile
from bertft.training.callbacks.trackers import check_tracker_packages
from bertft.training.distributed import DistributedContext
from bertft.training.dry_run import dry_run
from bertft.training.evaluate import evaluate
from bertft.training.memory import PeakMemory
from bertft.training.signals import InterruptOnSignal, StopRequest
from bertft.utils.atomic_io import convert_write_errors
from bertft.utils.terminal import print_escaped, print_warning

__all__ = [
    "finish_run",
    "run",
]


_PARAMETER_COUNTS = ("total", "trainable", "head", "method", "kept", "exported")


def finish_run(job: TrainingRun, memory: PeakMemory) -> None:
    """Calibrate the best checkpoint if asked, score it on test, write metrics.json, tell it."""
    progress, prepared, adapted, ranks = job.progress, job.prepared, job.adapted, job.ranks
    test = prepared.features.get("test")
    test_metrics = fitted_calibration = None
    best, validation = progress.best, progress.best_metrics
    if progress.best_step is not None:
        load_trained_weights(
            adapted.model,
            read_trained_weights(
                ranks.broadcast_object(lambda: job.checkpoints.find_checkpoint("best"))
            ),
        )
        if is_calibration_requested(job.config):
            table = prepared.features["validation"]
            fitted_calibration, validation, job.best_outputs = calibrate(
                job.config, adapted, table, progress.best_step, ranks, print_warning
            )
            best = validation[adapted.task.metric]
    elif is_calibration_requested(job.config) and ranks.is_main_process:
        print_warning(
            "no checkpoint was chosen on validation: there is nothing to calibrate or tune"
        )
    if test is not None:
        test_metrics = evaluate(adapted.runner, adapted.task, test, adapted.precision, ranks)
    [peak] = ranks.all_reduce_max(memory.peak(adapted.precision.device) or 0)
    if not ranks.is_main_process:
        return
    seconds = max(progress.seconds, 1e-9)
    applied = progress.step - progress.skipped - progress.rescaled
    counts = adapted.count_parameters()
    metrics = {
        "best": {
            "metric": adapted.task.metric,
            "value": best,
            "step": progress.best_step,
        },
        "validation": validation,
        "test": test_metrics,
        "train": {
            "seconds": progress.seconds,
            "rows_per_second": progress.rows / seconds,
            "tokens_per_second": progress.tokens / seconds,
            "peak_memory_bytes": peak or None,
            "steps": progress.step,
            "loss": progress.loss_sum / max(1, applied),
        },
        "parameters": {name: counts[name] for name in _PARAMETER_COUNTS},
    }
    if fitted_calibration is not None:
        metrics["calibration"] = fitted_calibration
    if prepared.teacher is not None:
        if prepared.teacher.metrics is not None:
            metrics["distillation"] = distillation.compare_with_teacher(
                prepared.teacher, adapted, prepared.features["validation"]
            )
        with convert_write_errors(job.run_folder.manifest_path):
            job.update_manifest({})
    job.run_folder.write_result(metrics)
    for result_table in training_tables(metrics, adapted.task.metric_note):
        job.console.print(result_table)
    has_unfoldable = any(not part.foldable for part in adapted.components)
    report = _write_report(job, metrics)
    merged_folder = next(name for name in _numbered_names("merged") if not Path(name).exists())
    lines = result_lines(
        metrics, job.run_folder.path, prefix=has_unfoldable, report=report, merged=merged_folder
    )
    for line in lines:
        print_escaped(line)


def _numbered_names(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name}-{number}" for number in itertools.count(2))


def _write_report(job: TrainingRun, metrics: dict[str, Any]) -> Path | None:
    """Leave pictures and report.html; what went wrong with them stands in log.txt too."""
    if not job.config.report:
        return None
    problems: list[str] = []
    rows = job.config.trainer.micro_batch or job.config.trainer.batch_size
    report_path = write_run_report(
        job.run_folder, job.config, job.prepared, metrics, job.best_outputs, rows, problems.append
    )
    for line in problems:
        print_warning(line)
    with suppress(OSError), LogFile(job.run_folder.log_path) as log:
        for line in problems:
            log.write_line(f"warning: {line}")
    return report_path


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
        base_model.check_base_folder(config.model, run_folder, cuts_student)
    elif run_folder.is_finished and not _is_extended(config.trainer, run_folder):
        _print_finished(run_folder, ranks, config.report)
        return
    with PeakMemory() as memory:
        with StopRequest() as stop:
            try:
                recorded_manifest = read_manifest(run_folder) if is_resumed else None
                console = plain_console(quiet=config.quiet or not ranks.is_main_process)
                newest_checkpoint = (
                    ranks.broadcast_object(lambda: _find_newest_checkpoint(run_folder))
                    if is_resumed
                    else None
                )
                prepared = prepare_run(
                    config,
                    run_folder,
                    recorded_manifest,
                    line_printer(console),
                    ranks,
                    newest_checkpoint,
                )
                job = TrainingRun(config, run_folder, prepared, ranks, console)
                if not is_resumed:
                    job.start()
                elif not job.resume(newest_checkpoint):
                    _print_finished(run_folder, ranks, config.report)
                    return
            finally:
                base_model.discard_base(run_folder)
            job.train(stop)
        with InterruptOnSignal():  # the last checkpoint is saved: nothing is lost
            finish_run(job, memory)
    ranks.shutdown()


def _find_newest_checkpoint(run_folder: RunFolder) -> Path | None:
    """The newest whole checkpoint; None where the run was stopped before its first one."""
    checkpoints = CheckpointStore(run_folder.checkpoints_dir)
    return (
        checkpoints.find_checkpoint("last", with_state=True, warn=print_warning)
        if checkpoints.steps()
        else None
    )


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
    print_escaped(
        f"{run_folder.path} is finished, after {steps} steps; metrics.json has its result"
    )
    if (
        report and not run_folder.report_path.exists()
    ):  # a kill between the two, or a disk that was full
        print_escaped(
            f"it has no report: bertft report {shlex.quote(f'run={run_folder.path}')} makes it"
        )
