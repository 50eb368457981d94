"""The table of a sweep: a line for each combination, its metric as mean ± std over the seeds.

``read_jobs(folder)`` reads the job folders, ``lines_of`` groups them (``reports.lines``), ``write``
leaves summary.csv and summary.md, ``show`` prints.
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
from bertft.formats.markdown import plain
from bertft.formats.markdown import table as markdown_table
from bertft.reports.lines import FIGURES, JobResult, Line, figures, lines_of
from bertft.runs.atomic import write_bytes, write_text
from bertft.runs.json_file import read_object
from bertft.runs.result import read_result

__all__ = ["JOB_FILE", "JobResult", "Line", "lines_of", "read_jobs", "show", "write"]

JOB_FILE = "job.json"
_FILE_WIDTH = 200  # where no terminal sets one


def read_jobs(folder: Path) -> list[JobResult]:
    """Every job under ``folder``, in the order of their settings.

    Where the files of their settings were not the same in all of them (the training file was
    changed between two sweeps, say), ``data.content`` tells the jobs apart; where a base from the
    Hub was, ``model.revision``.
    """
    files = sorted(each for each in folder.glob(f"*/{JOB_FILE}") if not each.parent.is_symlink())
    found = [_job(file) for file in files]
    for name, part_of in (("data.content", _content), ("model.revision", _revision)):
        parts = [part_of(file) for file in files]
        alike = [str({**job.settings, "seed": ""}) for job in found]
        if len(set(zip(alike, parts, strict=True))) > len(set(alike)):
            found = [
                replace(job, settings={**job.settings, name: part[:8]})
                for job, part in zip(found, parts, strict=True)
            ]
    return sorted(found, key=lambda job: [_natural(value) for value in job.settings.values()])


def _content(file: Path) -> str:
    """What the settings' files were, as ``config.content`` has it; empty if that is not known."""
    try:
        content = read_object(file).get("content")
    except DataError:  # reported as a failed job
        return ""
    return content if isinstance(content, str) else ""


def _revision(file: Path) -> str:
    """The commit of a base from the Hub that the job's run records; empty for any other base."""
    try:
        base = read_object(file.parent / "manifest.json").get("base")
    except DataError:  # none is there yet, or the run's own commands report it
        return ""
    revision = base.get("revision") if isinstance(base, dict) and base.get("kind") == "hub" else ""
    return revision if isinstance(revision, str) else ""


def _job(file: Path) -> JobResult:
    """What a job's folder holds; a damaged file makes it one that failed, and why."""
    settings: dict[str, str] = {}
    try:
        settings, error = _read_job(file)
        metrics = file.parent / "metrics.json"
        result = read_result(metrics) if os.path.lexists(metrics) else None
        if result is not None and result["best"]["value"] is None:
            return JobResult(file.parent, settings, "it was never scored on validation rows", None)
        return JobResult(file.parent, settings, error, result)
    except DataError as damaged:
        return JobResult(file.parent, settings, str(damaged), None)


def _read_job(file: Path) -> tuple[dict[str, str], str | None]:
    """Its settings, and why it failed. DataError where the file is damaged."""
    job = read_object(file)
    settings, error = job.get("overrides"), job.get("error")
    if (
        isinstance(settings, dict)
        and all(isinstance(value, str) for value in settings.values())
        and (error is None or isinstance(error, str))
    ):
        return settings, error
    raise DataError("is no record of a job", where=str(file), hint="Was it edited or cut short?")


def write(folder: Path, lines: Sequence[Line]) -> None:
    """Leave summary.csv (numbers as they are) and summary.md (numbers to read) in ``folder``."""
    text = io.StringIO(newline="")
    names = list(lines[0].settings) if lines else []
    columns = [name for name in Line.__dataclass_fields__ if name not in ("settings", "jobs")]
    table = csv.writer(text)
    table.writerow([*map(_text_cell, names), *columns])
    for line in lines:
        cells = [*line.settings.values(), *(_plain(getattr(line, c)) for c in columns)]
        table.writerow([_text_cell(cell) if isinstance(cell, str) else cell for cell in cells])
    write_bytes(folder / "summary.csv", text.getvalue().encode())  # not through a link
    head, rows = _cells(lines)
    markdown = markdown_table([plain(cell) for cell in head], [[*map(plain, row)] for row in rows])
    title = plain(folder.name)
    write_text(folder / "summary.md", f"# {title}\n\n{markdown}\n")


def show(lines: Sequence[Line]) -> None:
    """Print the table, and below it why jobs failed."""
    from rich.table import Table

    from bertft.reports.console import plain_console

    head, rows = _cells(lines)
    table = Table(*head)
    for row, line in zip(rows, lines, strict=True):
        note = row[-1].partition(":")[0]
        style = "bold" if line.best else "dim" if line.mean is None else None
        table.add_row(*row[:-1], note, style=style)
    console = plain_console()
    if not console.is_terminal:
        console = plain_console(width=_FILE_WIDTH)
    console.print(table)
    for line in lines:
        if line.failed:
            name = " ".join(f"{key}={value}" for key, value in line.settings.items())
            console.print(f"failed: {name}: {line.error}", highlight=False)


def _cells(lines: Sequence[Line]) -> tuple[list[str], list[list[str]]]:
    names = list(lines[0].settings) if lines else []
    metrics = {line.metric for line in lines if line.metric is not None}
    title = next(iter(metrics)) if len(metrics) == 1 else "metric"
    head = [*names, title, *FIGURES, ""]
    rows = []
    for line in lines:
        note = "best" if line.best else ""
        if line.failed:
            note += f"{', ' if note else ''}{line.failed} failed: {line.error}"
        cells = figures(line, title if len(metrics) == 1 else None)
        rows.append([*line.settings.values(), *cells, " ".join(note.split())])
    return head, rows


def _text_cell(text: str) -> str:
    """``text`` as a cell that no spreadsheet takes for a formula; numbers stay numbers."""
    try:
        float(text)
    except ValueError:
        return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
    return text


def _plain(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


def _natural(value: str) -> tuple[int, float, str]:
    """Numbers before words, and in their own order."""
    try:
        return (0, float(value), "")
    except ValueError:
        return (1, 0.0, value)
