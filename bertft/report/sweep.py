"""The table of a sweep: a line for each combination, its metric as mean ± std over the seeds.

``read_jobs(folder)`` reads the job folders, ``lines_of`` groups them (``reports.lines``),
``write_summary`` leaves summary.csv and summary.md, ``print_summary`` prints.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bertft.errors import DataError
from bertft.export.markdown import escape_markdown
from bertft.export.markdown import markdown_table as markdown_table
from bertft.report.result_rows import (
    COST_COLUMNS,
    JobResult,
    ResultRow,
    format_result_cells,
    group_results,
)
from bertft.runs.metrics_json import read_metrics_json
from bertft.utils.atomic_io import atomic_write_bytes, atomic_write_text
from bertft.utils.safe_files import DAMAGED_FILE_HINT, read_json_object

__all__ = [
    "JOB_FILE",
    "JobResult",
    "ResultRow",
    "group_results",
    "print_summary",
    "read_jobs",
    "write_summary",
]

JOB_FILE = "job.json"
_FILE_WIDTH = 200  # where no terminal sets one


def read_jobs(folder: Path) -> list[JobResult]:
    """Every job under ``folder``, in the order of their settings.

    Where the files of their settings were not the same in all of them (the training file was
    changed between two sweeps, say), ``data.content`` tells the jobs apart; where a base from the
    Hub was, ``model.revision``.
    """
    files = sorted(each for each in folder.glob(f"*/{JOB_FILE}") if not each.parent.is_symlink())
    results = [_read_result_of_job(file) for file in files]
    for name, part_of in (("data.content", _content_digest), ("model.revision", _revision)):
        parts = [part_of(file) for file in files]
        settings_without_seed = [str({**job.settings, "seed": ""}) for job in results]
        if len(set(zip(settings_without_seed, parts, strict=True))) > len(
            set(settings_without_seed)
        ):
            results = [
                replace(job, settings={**job.settings, name: part[:8]})
                for job, part in zip(results, parts, strict=True)
            ]
    return sorted(results, key=lambda job: [_natural_key(value) for value in job.settings.values()])


def _content_digest(file: Path) -> str:
    """What the settings' files were, as ``config.content`` has it; empty if that is not known."""
    try:
        content = read_json_object(file).get("content")
    except DataError:  # reported as a failed job
        return ""
    return content if isinstance(content, str) else ""


def _revision(file: Path) -> str:
    """The commit of a base from the Hub that the job's run records; empty for any other base."""
    try:
        base = read_json_object(file.parent / "manifest.json").get("base")
    except DataError:  # none is there yet, or the run's own commands report it
        return ""
    revision = base.get("revision") if isinstance(base, dict) and base.get("kind") == "hub" else ""
    return revision if isinstance(revision, str) else ""


def _read_result_of_job(file: Path) -> JobResult:
    """What a job's folder holds; a damaged file makes it one that failed, and why."""
    settings: dict[str, str] = {}
    try:
        settings, error = _read_job(file)
        metrics = file.parent / "metrics.json"
        result = read_metrics_json(metrics) if os.path.lexists(metrics) else None
        if result is not None and result["best"]["value"] is None:
            return JobResult(file.parent, settings, "it was never scored on validation rows", None)
        return JobResult(file.parent, settings, error, result)
    except DataError as damaged:
        return JobResult(file.parent, settings, str(damaged), None)


def _read_job(file: Path) -> tuple[dict[str, str], str | None]:
    """Its settings, and why it failed. DataError where the file is damaged."""
    job = read_json_object(file)
    settings, error = job.get("overrides"), job.get("error")
    if (
        isinstance(settings, dict)
        and all(isinstance(value, str) for value in settings.values())
        and (error is None or isinstance(error, str))
    ):
        return settings, error
    raise DataError("is no record of a job", where=str(file), hint=DAMAGED_FILE_HINT)


def write_summary(folder: Path, results: Sequence[ResultRow]) -> None:
    """Leave summary.csv (numbers as they are) and summary.md (numbers to read) in ``folder``."""
    text = io.StringIO(newline="")
    names = list(results[0].settings) if results else []
    columns = [name for name in ResultRow.__dataclass_fields__ if name not in ("settings", "jobs")]
    table = csv.writer(text)
    table.writerow([*map(_text_cell, names), *columns])
    for result in results:
        cells = [*result.settings.values(), *(_csv_value(getattr(result, c)) for c in columns)]
        table.writerow([_text_cell(cell) if isinstance(cell, str) else cell for cell in cells])
    atomic_write_bytes(folder / "summary.csv", text.getvalue().encode())  # not through a link
    head, rows = _summary_cells(results)
    markdown = markdown_table(
        [escape_markdown(cell) for cell in head], [[*map(escape_markdown, row)] for row in rows]
    )
    title = escape_markdown(folder.name)
    atomic_write_text(folder / "summary.md", f"# {title}\n\n{markdown}\n")


def print_summary(results: Sequence[ResultRow]) -> None:
    """Print the table, and below it why jobs failed."""
    from rich.table import Table

    from bertft.report.console import plain_console

    head, rows = _summary_cells(results)
    table = Table(*head)
    for row, result in zip(rows, results, strict=True):
        note = row[-1].partition(":")[0]
        style = "bold" if result.best else "dim" if result.mean is None else None
        table.add_row(*row[:-1], note, style=style)
    console = plain_console()
    if not console.is_terminal:
        console = plain_console(width=_FILE_WIDTH)
    console.print(table)
    for result in results:
        if result.failed:
            name = " ".join(f"{key}={value}" for key, value in result.settings.items())
            console.print(f"failed: {name}: {result.error}", highlight=False)


def _summary_cells(results: Sequence[ResultRow]) -> tuple[list[str], list[list[str]]]:
    names = list(results[0].settings) if results else []
    metrics = {line.metric for line in results if line.metric is not None}
    title = next(iter(metrics)) if len(metrics) == 1 else "metric"
    head = [*names, title, *COST_COLUMNS, ""]
    rows = []
    for result in results:
        note = "best" if result.best else ""
        if result.failed:
            note += f"{', ' if note else ''}{result.failed} failed: {result.error}"
        cells = format_result_cells(result, title if len(metrics) == 1 else None)
        rows.append([*result.settings.values(), *cells, " ".join(note.split())])
    return head, rows


def _text_cell(text: str) -> str:
    """``text`` as a cell that no spreadsheet takes for a formula; numbers stay numbers."""
    try:
        float(text)
    except ValueError:
        return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
    return text


def _csv_value(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


def _natural_key(value: str) -> tuple[int, float, str]:
    """Numbers before words, and in their own order."""
    try:
        return (0, float(value), "")
    except ValueError:
        return (1, 0.0, value)
