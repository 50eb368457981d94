"""The output of ``bertft train`` and ``bertft eval``: tables of results, and lines of text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType

from bertft.data.findings import read_findings
from bertft.export.result_tables import (
    calibration_table,
    format_cell,
    group_table,
    metrics_table,
    teacher_table,
)
from bertft.report.console import is_new_output
from bertft.report.next_commands import next_commands
from bertft.report.terminal_table import FittedTable
from bertft.tasks.report_items import TableItem
from bertft.utils.numbers import format_bytes, format_count, format_duration, format_score

if TYPE_CHECKING:
    from bertft.pipeline.task_model import TaskModel
    from bertft.report.intervals import Intervals
    from bertft.training.dry_run import DryRun

__all__ = [
    "device_line",
    "dry_run_lines",
    "finding_lines",
    "result_lines",
    "score_items",
    "score_tables",
    "training_tables",
]


def training_tables(
    metrics: Mapping[str, Any],
    metric_note: str = "",
    intervals: Mapping[str, Intervals] | None = None,
) -> list[RenderableType]:
    """The metrics of the best checkpoint, then those of groups.

    Args:
        metrics: The content of metrics.json.
        metric_note: Additional information about the metrics.
        intervals: Split → metric → ends of its 95 % confidence interval.
    """
    best = metrics["best"]
    is_validated = best["step"] is not None
    splits = {name: metrics.get(name) or {} for name in ("validation", "test")}
    overall = metrics_table(
        splits,
        best["metric"] if is_validated else None,
        title=f"Metrics at step {format_count(best['step'])}" if is_validated else "Metrics",
        note=metric_note,
        intervals=intervals,
    )
    tables = [overall, *(group_table(values, split) for split, values in splits.items())]
    return [FittedTable(table) for table in tables if table is not None]


def score_tables(
    metrics: Mapping[str, float], selection_metric: str, split: str, rows: int
) -> list[RenderableType]:
    """``score_items`` for the terminal."""
    return [FittedTable(item) for item in score_items(metrics, selection_metric, split, rows)]


def score_items(
    metrics: Mapping[str, float],
    selection_metric: str,
    split: str,
    rows: int,
    note: str = "",
    intervals: Intervals | None = None,
) -> list[TableItem]:
    """The metrics of ``bertft eval`` on ``rows`` of one split, then those of groups.

    Args:
        metrics: All metrics.
        selection_metric: The metric that is marked.
        split: The name of the split.
        rows: The number of rows.
        note: Text below the metrics.
        intervals: Metric → ends of its 95 % confidence interval.
    """
    overall = metrics_table(
        {split: metrics},
        selection_metric,
        title=f"{split}, {format_count(rows)} rows",
        note=note,
        intervals={split: intervals or {}},
    )
    return [item for item in (overall, group_table(metrics, split)) if item is not None]


def result_lines(
    metrics: Mapping[str, Any],
    folder: str | Path,
    *,
    prefix: bool = False,
    report: str | None = None,
    merged: str = "merged",
    rows: str = "new.jsonl",
) -> list[str]:
    """The result in lines of text, the run folder, and the commands to run next.

    Args:
        metrics: The content of metrics.json.
        folder: The run folder.
        prefix: Whether the run has a prefix, for which ``merge`` needs a setting.
        report: Path of report.html, if it was written.
        merged: Name of a new folder for ``merge``.
        rows: Name of a file of rows to predict.
    """
    best, test, train = metrics["best"], metrics.get("test"), metrics["train"]
    lines = []
    if best["value"] is not None:
        scores = f"{best['metric']} {format_score(best['value'])} on validation"
        if test:
            scores += f", {format_score(test.get(best['metric']))} on test"
        steps = f"step {format_count(best['step'])} of {format_count(train['steps'])}"
        lines.append(f"{scores} ({steps})")
    lines += _calibration_lines(metrics.get("calibration"))
    lines += _distillation_lines(metrics.get("distillation"))
    lines.append(
        f"{format_count(train['steps'])} steps in {format_duration(train['seconds'])},"
        f" {format_count(train['rows_per_second'])} rows/s,"
        f" {format_count(train['tokens_per_second'])} tokens/s,"
        f" peak memory {format_bytes(train['peak_memory_bytes'])}"
    )
    lines.append(f"run folder: {folder}")
    if report is not None:
        lines.append(f"report: {report}")
    commands = next_commands(folder, prefix=prefix, merged=merged, rows=rows).values()
    return [*lines, "next:", *(f"  {command}" for command in commands)]


def finding_lines(metrics: Mapping[str, Any], manifest: Mapping[str, Any]) -> list[str]:
    """One line per finding, with a heading; empty without findings.

    In a sweep, a finding on the data is left out if an earlier job printed it.
    """
    on_predictions, on_data = read_findings(metrics, {}), read_findings({}, manifest)
    findings = [*on_predictions, *(data for data in on_data if is_new_output(data.format_line()))]
    return (
        ["findings:", *(f"  - {finding.format_line()}" for finding in findings)] if findings else []
    )


def _calibration_lines(calibration: Mapping[str, Any] | None) -> list[str]:
    if calibration is None:
        return []
    table = calibration_table(calibration)
    changes = [
        f"{name} {format_cell(after)}"
        if before is None
        else f"{name} {format_cell(before)} → {format_cell(after)}"
        for name, before, after in table.rows
    ]
    return [f"calibration on validation: {', '.join(changes)}", *filter(None, [table.note])]


def _distillation_lines(distillation: Mapping[str, Any] | None) -> list[str]:
    if distillation is None:
        return []
    table = teacher_table(distillation)
    lines = []
    for side, *cells in table.rows:
        facts = zip(table.head[1:], cells, strict=True)
        lines.append(f"{side}: {', '.join(f'{name} {format_cell(cell)}' for name, cell in facts)}")
    return [*lines, table.note]


def device_line(task_model: TaskModel, setting: str) -> str:
    """What is trained where, and in which precision; ``setting``: trainer.precision."""
    precision = task_model.precision
    device = str(precision.device)
    if precision.device.type == "cuda":
        import torch

        device += f" ({torch.cuda.get_device_name(precision.device)})"
    choice = " (trainer.precision=auto)" if setting == "auto" else ""
    return f"model {task_model.source.name}, device {device}, precision {precision.name}{choice}"


def dry_run_lines(trial: DryRun, steps: int, peak: int | None) -> list[str]:
    """The result of ``check=true``: the largest step, and an estimate of the whole run.

    Args:
        trial: Measurements of the dry run.
        steps: Steps of the whole run.
        peak: Peak memory in bytes, None if unknown.
    """
    lines = [
        f"largest step: {format_count(trial.rows_per_step)} sequences of up to"
        f" {format_count(trial.max_length)} tokens,"
        f" {format_count(trial.micro_batch)} sequences per forward pass,"
        f" peak memory {format_bytes(peak)}"
    ]
    if trial.micro_batch_reduced:
        lines.append(
            "the device ran out of memory with more sequences: set"
            f" trainer.micro_batch={trial.micro_batch}"
        )
    if not trial.finite:
        lines.append("a loss or gradient was not finite: reduce trainer.learning_rate")
    evaluations = "evaluation" if trial.evaluations == 1 else "evaluations"
    lines.append(
        f"whole run: {format_count(steps)} steps and {format_count(trial.evaluations)}"
        f" {evaluations}, about {format_duration(trial.seconds)}"
    )
    return lines
