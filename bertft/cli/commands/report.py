"""``bertft report``: regenerate report.html and plots/ of a finished run.

It is for a run that was killed before its report was written, was trained with ``report=false``, or
has the report of an earlier version. The best checkpoint is evaluated again; the other files of the
run do not change.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bertft.config.command_configs import ReportConfig
from bertft.config.resume import read_runnable_config
from bertft.errors import SystemResourceError, UsageError
from bertft.pipeline import base_model
from bertft.pipeline.calibration import apply_calibration, read_calibration
from bertft.pipeline.checkpoint import read_trained_weights
from bertft.pipeline.data import build_data
from bertft.pipeline.model import build_model
from bertft.pipeline.run_context import RunContext
from bertft.pipeline.task_model import load_trained_weights
from bertft.report.console import line_printer, plain_console
from bertft.report.run_report import write_run_report
from bertft.runs.checkpoints import CheckpointStore
from bertft.runs.manifest import read_manifest
from bertft.runs.metrics_json import read_metrics_json
from bertft.runs.run_folder import RunFolder, exclusive_lock
from bertft.training.signals import InterruptOnSignal
from bertft.utils.messages import add_location, display_path
from bertft.utils.terminal import print_escaped, print_warning

__all__ = ["run"]


def run(config: ReportConfig, _: Path) -> None:
    """Write the report and print its path. SystemResourceError if it could not be written."""
    run_folder = RunFolder.open(Path(config.run).expanduser())
    if not run_folder.is_finished:
        raise UsageError(
            "is not finished",
            where=str(run_folder.path),
            hint=f"Resume it with bertft train resume={run_folder.path}",
        )
    run_folder.ensure_no_links()
    run_folder.verify_seal(run_folder.metrics_path)
    with exclusive_lock(run_folder.path), InterruptOnSignal():
        report_path = _rebuild_report(run_folder, config)
    if report_path is None:
        raise SystemResourceError(
            "the report could not be written",
            where=str(run_folder.path),
            hint="Fix the problem in the warning above",
        )
    print_escaped(f"report: {display_path(report_path)}")


def _rebuild_report(run_folder: RunFolder, config: ReportConfig) -> Path | None:
    run_config = read_runnable_config(run_folder.path, config.trust_remote_code)
    metrics = read_metrics_json(run_folder.metrics_path)
    run_config = replace(run_config, trainer=replace(run_config.trainer, device=config.device))
    step = metrics["best"]["step"]
    # A run without validation rows has no best checkpoint.
    checkpoint = CheckpointStore(run_folder.checkpoints_dir).find_checkpoint(
        "last" if step is None else str(step)
    )
    context = RunContext.create(
        run_config,
        run_folder,
        line_printer(plain_console(stderr=True)),
        manifest=read_manifest(run_folder),
        checkpoint=checkpoint,
        read_only=True,
    )
    try:
        data = build_data(context)
        task_model = build_model(context, data).task_model
    finally:
        base_model.discard_base(run_folder)
    with add_location(checkpoint):
        load_trained_weights(task_model.model, read_trained_weights(checkpoint))
    calibration = read_calibration(run_folder, step)
    if calibration is not None:
        apply_calibration(calibration, task_model)
    return write_run_report(
        run_folder,
        run_config,
        data,
        task_model,
        metrics,
        {},
        print_warning,
    )
