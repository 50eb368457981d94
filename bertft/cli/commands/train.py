"""``bertft train``: fine-tune an encoder and write a run folder."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from bertft.config.command_configs import TrainConfig
from bertft.config.data_files import STANDARD_INPUT
from bertft.config.resume import read_run_config
from bertft.config.trainer import TrainerConfig
from bertft.data.standard_input import standard_input_stream, store_standard_input
from bertft.data.statistics import format_split_accounting, make_data_table
from bertft.errors import UsageError
from bertft.export.result_tables import parameter_table
from bertft.pipeline import base_model
from bertft.pipeline.build import PreparedRun, prepare_run
from bertft.pipeline.run_context import RunContext
from bertft.pipeline.training_run import TrainingRun
from bertft.report.compare.row_statistics import store_row_statistics
from bertft.report.console import (
    is_condensed,
    is_new_output,
    line_printer,
    plain_console,
    print_wrapped,
)
from bertft.report.intervals import Intervals, split_intervals
from bertft.report.next_commands import new_rows_file
from bertft.report.run_report import write_run_report
from bertft.report.tables import (
    device_line,
    dry_run_lines,
    finding_lines,
    result_lines,
    training_tables,
)
from bertft.report.terminal_table import FittedTable
from bertft.runs.checkpoints import CheckpointStore
from bertft.runs.manifest import read_manifest
from bertft.runs.metrics_json import RunMetrics, read_metrics_json
from bertft.runs.run_folder import RunFolder, exclusive_lock
from bertft.training.callbacks.log_file import LogFile
from bertft.training.callbacks.trackers import check_tracker_packages
from bertft.training.distributed import DistributedContext
from bertft.training.dry_run import dry_run
from bertft.training.events import Stopped
from bertft.training.memory import PeakMemory
from bertft.training.signals import InterruptOnSignal, StopRequest
from bertft.utils.messages import display_path
from bertft.utils.terminal import print_escaped, print_warning

__all__ = ["run"]


def run(config: TrainConfig, folder: Path) -> None:
    """Train in ``folder``, or resume the run there.

    Raises StoppedBySignal after a signal, with a checkpoint saved, NonFiniteError, CollapseError.
    """
    check_tracker_packages(config.trainer.trackers)
    distributed, run_folder = DistributedContext.initialize(), RunFolder(folder)
    if config.check:
        with TemporaryDirectory() as temporary, _stored_input(config, Path(temporary), distributed):
            _run_dry_run(config, distributed)
        return
    with (
        exclusive_lock(run_folder.path, None if config.resume else "hydra.run.dir")
        if distributed.is_main_process
        else nullcontext(),
        _stored_input(config, run_folder.path, distributed),
    ):
        _run_training(config, run_folder, distributed)


@contextmanager
def _stored_input(
    config: TrainConfig, folder: Path, distributed: DistributedContext
) -> Iterator[None]:
    """Store the rows of data.train=- in ``folder``, and set data.train to their file.

    The file is part of the run, which can be resumed and evaluated. It is removed if no run begins.
    """
    if config.data.train != STANDARD_INPUT or config.data.source != "files":
        yield
        return
    if distributed.world_size > 1:
        raise UsageError(
            "standard input is not supported with several processes",
            where="data.train=-",
            hint="Write the rows to a file and set data.train=<file>",
        )
    run_folder = RunFolder(folder)
    run_folder.ensure_no_run()
    with standard_input_stream() as stream:
        path = store_standard_input(stream, run_folder.path / "rows", config.data)
    config.data.train = str(path)
    try:
        yield
    except BaseException:
        if not run_folder.has_run:
            path.unlink(missing_ok=True)
            with suppress(OSError):
                path.parent.rmdir()
        raise


def _run_training(
    config: TrainConfig, run_folder: RunFolder, distributed: DistributedContext
) -> None:
    distributed.barrier()  # no process changes the folder before all have read it
    is_resumed = config.resume is not None and run_folder.has_run
    run_folder.ensure_no_links()
    if not is_resumed:
        run_folder.ensure_no_run()
        distill = config.method.distill
        cuts_student = distill is not None and distill.student_layers is not None
        base_model.check_base_folder(config.model, run_folder, cuts_student)
    elif run_folder.is_finished and not _is_extended(config.trainer, run_folder):
        _print_finished(run_folder, distributed, config.report)
        return
    console = plain_console(quiet=config.quiet or not distributed.is_main_process)
    with PeakMemory() as memory:
        with StopRequest() as stop_request:
            try:
                manifest = checkpoint = None
                if is_resumed:
                    manifest = read_manifest(run_folder)
                    checkpoint = distributed.broadcast_object(
                        lambda: _find_newest_checkpoint(run_folder)
                    )
                context = RunContext.create(
                    config,
                    run_folder,
                    line_printer(console),
                    distributed=distributed,
                    manifest=manifest,
                    checkpoint=checkpoint,
                )
                prepared = prepare_run(context)
                training_run = TrainingRun(context, prepared)
                if not is_resumed:
                    _print_summary(config, prepared, console)
                    training_run.start()
                elif not training_run.resume(checkpoint):
                    _print_finished(run_folder, distributed, config.report)
                    return
            finally:
                base_model.discard_base(run_folder)
            stopped = training_run.train(stop_request)
        if stopped is not None:
            _print_stopped(run_folder, stopped, distributed)
            distributed.shutdown()
            return
        with InterruptOnSignal():  # the last checkpoint is saved: nothing is lost
            metrics = training_run.finish(memory)
            if metrics is not None:
                _print_result(training_run, metrics, console)
    distributed.shutdown()


def _print_summary(config: TrainConfig, prepared: PreparedRun, console: Console) -> None:
    """Print the data with the accounting of its rows, the parameters, and the precision."""
    accounting = format_split_accounting(prepared.data.report)
    if is_new_output("\n".join(accounting)):
        console.print(make_data_table(prepared.data.report))
        for line in accounting:
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    if is_new_output("parameters"):  # those of other jobs are in the table of the sweep
        counts = prepared.model.task_model.count_parameters()
        console.print(FittedTable(parameter_table(counts)))
    line = device_line(prepared.model.task_model, config.trainer.precision)
    if is_new_output(line):
        console.print(line, highlight=False, soft_wrap=True)


def _print_result(training_run: TrainingRun, metrics: RunMetrics, console: Console) -> None:
    """Print the metrics of the best model, write the report, and name the next commands."""
    task_model = training_run.task_model
    intervals = split_intervals(task_model.task, training_run.outputs, training_run.data.features)
    if not is_condensed():
        for table in training_tables(metrics, task_model.task.metric_note, intervals):
            console.print(table)
    _store_row_statistics(training_run)
    report_path = _write_report(training_run, metrics, intervals)
    numbered = (f"merged-{number}" for number in itertools.count(2))
    lines = result_lines(
        metrics,
        display_path(training_run.run_folder.path),
        prefix=bool(task_model.unfoldable_components),
        report=None if report_path is None else display_path(report_path),
        rows=new_rows_file(training_run.config.data),
        merged=next(
            name for name in itertools.chain(["merged"], numbered) if not Path(name).exists()
        ),
    )
    findings = finding_lines(metrics, training_run.run_folder.read_manifest())
    print_escaped(lines[0])
    print_wrapped(findings)
    for line in [] if is_condensed() else lines[1:]:
        print_escaped(line)


def _store_row_statistics(training_run: TrainingRun) -> None:
    """Keep what bertft compare needs of the best evaluation, so that it does not repeat it."""
    outputs = training_run.outputs.get("validation")
    validation = training_run.data.features.get("validation")
    if outputs is None or validation is None:
        return
    with suppress(Exception):  # a cache: bertft compare computes it, or reports the error
        store_row_statistics(
            training_run.run_folder, training_run.task_model.task, outputs, validation
        )


def _write_report(
    training_run: TrainingRun, metrics: RunMetrics, intervals: Mapping[str, Intervals]
) -> Path | None:
    """Write report.html and plots/; problems are printed and logged in log.txt."""
    config, run_folder = training_run.config, training_run.run_folder
    if not config.report:
        return None
    problems: list[str] = []
    report_path = write_run_report(
        run_folder,
        config,
        training_run.data,
        training_run.task_model,
        metrics,
        training_run.outputs,
        problems.append,
        intervals,
    )
    for problem in problems:
        print_warning(problem)
    with suppress(OSError), LogFile(run_folder.log_path) as log:
        for problem in problems:
            log.write_line(f"warning: {problem}")
    return report_path


def _find_newest_checkpoint(run_folder: RunFolder) -> Path | None:
    """The newest complete checkpoint; None if the run was stopped before its first one."""
    checkpoints = CheckpointStore(run_folder.checkpoints_dir)
    return (
        checkpoints.find_checkpoint("last", with_state=True, warn=print_warning)
        if checkpoints.steps()
        else None
    )


def _run_dry_run(config: TrainConfig, distributed: DistributedContext) -> None:
    """Print the memory and time of the run, estimated in a few steps. No files are kept."""
    with InterruptOnSignal() as stop_request, TemporaryDirectory() as folder:
        with PeakMemory() as memory:
            console = plain_console(quiet=config.quiet or not distributed.is_main_process)
            context = RunContext.create(
                config, RunFolder(Path(folder)), line_printer(console), distributed=distributed
            )
            prepared = prepare_run(context)
            _print_summary(config, prepared, console)
            result = dry_run(TrainingRun(context, prepared).build_trainer(stop_request))
            [peak] = distributed.all_reduce_max(memory.peak(context.device) or 0)
        distributed.shutdown()
    if distributed.is_main_process:
        total_steps = prepared.optimization.schedule.total_steps
        for line in dry_run_lines(result, total_steps, peak or None):
            print_escaped(line)


def _is_extended(trainer: TrainerConfig, run_folder: RunFolder) -> bool:
    """Whether the configured length of training differs from that of the run in ``run_folder``."""
    recorded = read_run_config(run_folder.path).trainer
    return (trainer.epochs, trainer.max_steps) != (recorded.epochs, recorded.max_steps)


def _print_stopped(
    run_folder: RunFolder, stopped: Stopped, distributed: DistributedContext
) -> None:
    if not distributed.is_main_process or is_condensed():
        return
    folder = display_path(run_folder.path)
    print_escaped(
        f"stopped after step {stopped.step} of {stopped.total_steps} (trainer.stop_at); resume with"
        f" bertft train {shlex.quote(f'resume={folder}')}"
    )


def _print_finished(run_folder: RunFolder, distributed: DistributedContext, report: bool) -> None:
    if not distributed.is_main_process:
        return
    steps = read_metrics_json(run_folder.metrics_path)["train"]["steps"]
    print_escaped(
        f"{display_path(run_folder.path)} is finished after {steps} steps; its results are in"
        " metrics.json"
    )
    # A run that was killed just before its report, or whose disk was full, has none.
    if report and not run_folder.report_path.exists():
        command = f"bertft report {shlex.quote(f'run={display_path(run_folder.path)}')}"
        print_escaped(f"it has no report; write one with {command}")
