"""The summary of a sweep: one row per combination, with mean ± std over the seeds.

``read_jobs`` reads the job folders, ``group_results`` (``report.result_rows``) groups them,
``write_summary`` writes summary.csv and summary.md, and ``print_summary`` prints the table.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from bertft.config.task_facts import LOWER_IS_BETTER
from bertft.errors import DataError
from bertft.export.markdown import escape_markdown, markdown_table
from bertft.report.result_rows import (
    COST_COLUMNS,
    PARAMETERS_NOTE,
    JobResult,
    ResultRow,
    format_mean,
    format_result_cells,
    recorded_lower_is_better,
)
from bertft.report.ties import is_comparable
from bertft.runs.metrics_json import read_metrics_json
from bertft.utils.atomic_io import atomic_write_bytes, atomic_write_text
from bertft.utils.safe_files import DAMAGED_FILE_HINT, read_json_object

__all__ = ["JOB_FILE", "print_summary", "read_jobs", "write_summary"]

JOB_FILE = "job.json"


def read_jobs(folder: Path) -> list[JobResult]:
    """Every job in ``folder``, in the order of their settings.

    Jobs with equal settings may still differ, if a data file or a model on the Hub has changed
    between two sweeps. Then ``data.content`` or ``model.revision`` is added to the settings.
    """
    files = sorted(path for path in folder.glob(f"*/{JOB_FILE}") if not path.parent.is_symlink())
    jobs = [_read_job_result(file) for file in files]
    for name, read_version in (("data.content", _content_digest), ("model.revision", _revision)):
        versions = [read_version(file) for file in files]
        settings = [str({**job.settings, "seed": ""}) for job in jobs]
        if len(set(zip(settings, versions, strict=True))) > len(set(settings)):
            jobs = [
                replace(job, settings={**job.settings, name: version[:8]})
                for job, version in zip(jobs, versions, strict=True)
            ]
    return sorted(jobs, key=lambda job: [_natural_key(value) for value in job.settings.values()])


def _content_digest(file: Path) -> str:
    """The digest of the data files that the job records; empty if unknown."""
    try:
        content = read_json_object(file).get("content")
    except DataError:  # read_jobs reports it as a failed job
        return ""
    return content if isinstance(content, str) else ""


def _revision(file: Path) -> str:
    """The commit of a base model from the Hub that the job's run records; empty for others."""
    try:
        base = read_json_object(file.parent / "manifest.json").get("base")
    except DataError:  # missing, or damaged: commands that open the run report it
        return ""
    revision = base.get("revision") if isinstance(base, dict) and base.get("kind") == "hub" else ""
    return revision if isinstance(revision, str) else ""


def _read_job_result(file: Path) -> JobResult:
    """The result in a job folder. A job with a damaged file counts as failed."""
    settings: dict[str, str] = {}
    try:
        settings, error = _read_job(file)
        metrics = file.parent / "metrics.json"
        result = read_metrics_json(metrics) if os.path.lexists(metrics) else None
        if result is not None and result["best"]["value"] is None:
            return JobResult(file.parent, settings, "the run has no validation metrics", None)
        return JobResult(file.parent, settings, error, result)
    except DataError as damaged:
        return JobResult(file.parent, settings, str(damaged), None)


def _read_job(file: Path) -> tuple[dict[str, str], str | None]:
    """The settings, and the error of a failed job. DataError if the file is damaged."""
    job = read_json_object(file)
    settings, error = job.get("overrides"), job.get("error")
    if (
        isinstance(settings, dict)
        and all(isinstance(value, str) for value in settings.values())
        and (error is None or isinstance(error, str))
    ):
        return settings, error
    raise DataError(
        "'overrides' or 'error' of the job is invalid", where=str(file), hint=DAMAGED_FILE_HINT
    )


def write_summary(folder: Path, results: Sequence[ResultRow]) -> None:
    """Write summary.csv (exact numbers) and summary.md (rounded numbers) into ``folder``."""
    text = io.StringIO(newline="")
    names = list(results[0].settings) if results else []
    columns = [name for name in ResultRow.__dataclass_fields__ if name not in ("settings", "jobs")]
    table = csv.writer(text)
    table.writerow([*map(_csv_cell, names), *columns])
    for result in results:
        cells = [*result.settings.values(), *(getattr(result, column) for column in columns)]
        table.writerow(map(_csv_cell, cells))
    atomic_write_bytes(folder / "summary.csv", text.getvalue().encode())
    head, rows = _summary_cells(results)
    markdown = markdown_table(
        [escape_markdown(cell) for cell in head], [[*map(escape_markdown, row)] for row in rows]
    )
    title = escape_markdown(folder.name)
    summary = f"# {title}\n\n{markdown}\n\n{PARAMETERS_NOTE}\n"
    atomic_write_text(folder / "summary.md", summary)


def print_summary(results: Sequence[ResultRow]) -> None:
    """Print the table, the errors of failed jobs, and the best run with its path."""
    from bertft.report.console import wide_console
    from bertft.report.terminal_table import FittedTable, move_constant_columns
    from bertft.tasks.report_items import TableItem

    head, rows = _summary_cells(results)
    rows = [[*row[:-1], row[-1].partition(":")[0]] for row in rows]
    settings = len(head) - len(COST_COLUMNS) - 2
    kinds = ["word"] * settings + ["number"] * (len(head) - settings - 1) + ["word"]
    strong = [index for index, result in enumerate(results) if result.best]
    table = TableItem(
        "results", "Results", PARAMETERS_NOTE, head=head, rows=rows, kinds=kinds, strong=strong
    )
    console = wide_console()
    console.print(
        FittedTable(
            move_constant_columns(table, (*COST_COLUMNS, "")),
            droppable=("peak memory", "checkpoint", "seconds", "runs", "method parameters"),
        )
    )
    for result in results:
        if result.failed:
            name = f"{_name(result)}: " if result.settings else ""
            console.print(f"failed: {name}{result.error}", highlight=False)
    for line in _best_lines(results):
        has_path = line.startswith("best run")  # not wrapped, so that the path can be copied
        console.print(line, highlight=False, soft_wrap=has_path or not console.is_terminal)


def _name(result: ResultRow) -> str:
    return " ".join(f"{key}={value}" for key, value in result.settings.items())


def _best_lines(results: Sequence[ResultRow]) -> Iterator[str]:
    """The best row on each data set, the rows that tie with it, and its best run."""
    jobs = [job.metrics for result in results for job in result.jobs if job.metrics is not None]
    lower_is_better = LOWER_IS_BETTER | recorded_lower_is_better(jobs)
    leaders = [result for result in results if result.best]
    for leader in leaders:
        values = ((job.metrics["best"]["value"], job) for job in leader.jobs if job.metrics)
        runs = [(value, job) for value, job in values if value is not None]
        choose = min if leader.metric in lower_is_better else max
        value, job = choose(runs, key=lambda run: run[0])
        name = f"{_name(leader)}: " if leader.settings else ""
        yield f"best: {name}{leader.metric} {format_mean(leader)}"
        others = [result for result in results if is_comparable(result, leader)]
        ties = [_name(other) for other in others if other.tie]
        if ties:
            yield f"tie with the best: {'; '.join(ties)} (the difference is within the noise)"
        if any(other.tie is None for other in others):
            yield (
                "it is unknown whether other rows tie with the best: train several seeds, or run"
                " bertft compare"
            )
        seed = f" (seed {job.settings['seed']}: {value:.4f})" if "seed" in job.settings else ""
        yield f"best run{seed}: {job.folder}"


def _summary_cells(results: Sequence[ResultRow]) -> tuple[list[str], list[list[str]]]:
    names = list(results[0].settings) if results else []
    metrics = {result.metric for result in results if result.metric is not None}
    metric = metrics.pop() if len(metrics) == 1 else None
    head = [*names, metric or "metric", *COST_COLUMNS, ""]
    rows = []
    for result in results:
        notes = ["best" if result.best else "tie" if result.tie else ""]
        if result.failed:
            notes.append(f"{result.failed} failed: {result.error}")
        cells = format_result_cells(result, metric)
        note = ", ".join(filter(None, notes))
        rows.append([*result.settings.values(), *cells, " ".join(note.split())])
    return head, rows


def _csv_cell(value: object) -> object:
    """A text that a spreadsheet would run as a formula is quoted; numbers stay numbers."""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}" if value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
    return value


def _natural_key(value: str) -> tuple[int, float, str]:
    """Sort key: numbers by value, before words."""
    try:
        return (0, float(value), "")
    except ValueError:
        return (1, 0.0, value)
