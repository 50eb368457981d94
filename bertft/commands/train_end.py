"""The end of a run: its best checkpoint scored and calibrated, metrics.json, the report."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from bertft.assembly import comparison
from bertft.assembly.adapted import load_trained_weights
from bertft.assembly.calibrate import is_calibration_requested, calibrate
from bertft.assembly.checkpoint import read_trained_weights
from bertft.assembly.warn import print_warning
from bertft.commands.run_report import write_run_report
from bertft.commands.train_job import TrainingRun
from bertft.config.printed import print_escaped
from bertft.listeners.log_file import LogFile
from bertft.reports.tables import group_table, result_lines, result_table
from bertft.runs.atomic import convert_write_errors
from bertft.training.evaluate import evaluate
from bertft.training.memory import PeakMemory

__all__ = ["finish_run"]

_PARAMETER_COUNTS = ("total", "trainable", "head", "method", "kept", "exported")


def finish_run(job: TrainingRun, memory: PeakMemory) -> None:
    """Calibrate the best checkpoint if asked, score it on test, write metrics.json, tell it."""
    progress, prepared, adapted, ranks = job.progress, job.prepared, job.adapted, job.ranks
    test = prepared.features.get("test")
    test_metrics = fitted_calibration = None
    best, validation = progress.best, progress.best_metrics
    if progress.best_step is not None:
        load_trained_weights(adapted.model, read_trained_weights(ranks.broadcast_object(lambda: job.checkpoints.find_checkpoint("best"))))
        if is_calibration_requested(job.config):
            table = prepared.features["validation"]
            fitted_calibration, validation, job.best_outputs = calibrate(
                job.config, adapted, table, progress.best_step, ranks, print_warning
            )
            best = validation[adapted.task.metric]
    elif is_calibration_requested(job.config) and ranks.is_main_process:
        print_warning("no checkpoint was chosen on validation: there is nothing to calibrate or tune")
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
            metrics["distillation"] = comparison.compare_with_teacher(
                prepared.teacher, adapted, prepared.features["validation"]
            )
        with convert_write_errors(job.run_folder.manifest_path):
            job.update_manifest({})
    job.run_folder.write_result(metrics)
    job.console.print(result_table(metrics, adapted.task.metric_note))
    for split, values in (("validation", validation), ("test", test_metrics)):
        details = group_table(values or {}, split)
        if details is not None:
            job.console.print(details)
    has_unfoldable = any(not part.foldable for part in adapted.components)
    report = _write_report(job, metrics)
    merged_folder = next(name for name in _numbered_names("merged") if not Path(name).exists())
    lines = result_lines(metrics, job.run_folder.path, prefix=has_unfoldable, report=report, merged=merged_folder)
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
    report_path = write_run_report(job.run_folder, job.config, job.prepared, metrics, job.best_outputs, rows, problems.append)
    for line in problems:
        print_warning(line)
    with suppress(OSError), LogFile(job.run_folder.log_path) as log:
        for line in problems:
            log.write_line(f"warning: {line}")
    return report_path
