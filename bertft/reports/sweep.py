"""The table of a sweep: a line for each combination, its metric as mean ± std over the seeds.

``read_jobs(folder)`` reads the job folders, ``lines_of`` groups them (``reports.lines``), ``write``
leaves summary.csv and summary.md, ``show`` prints.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bertft.reports.lines import FIGURES, JobResult, Line, figures, lines_of

__all__ = ["JOB_FILE", "JobResult", "Line", "lines_of", "read_jobs", "show", "write"]

JOB_FILE = "job.json"
_FILE_WIDTH = 200  # where no terminal sets one


def read_jobs(folder: Path) -> list[JobResult]:
    """Every job under ``folder``, in the order of their settings."""
    found = []
    for file in sorted(folder.glob(f"*/{JOB_FILE}")):
        job = json.loads(file.read_text(encoding="utf-8"))
        metrics = file.parent / "metrics.json"
        found.append(
            JobResult(
                file.parent,
                job["overrides"],
                job["error"],
                json.loads(metrics.read_text(encoding="utf-8")) if metrics.is_file() else None,
            )
        )
    return sorted(found, key=lambda job: [_natural(value) for value in job.settings.values()])


def write(folder: Path, lines: Sequence[Line]) -> None:
    """Leave summary.csv (numbers as they are) and summary.md (numbers to read) in ``folder``."""
    text = io.StringIO(newline="")
    names = list(lines[0].settings) if lines else []
    columns = [name for name in Line.__dataclass_fields__ if name not in ("settings", "jobs")]
    table = csv.writer(text)
    table.writerow([*names, *columns])
    for line in lines:
        table.writerow([*line.settings.values(), *(_plain(getattr(line, c)) for c in columns)])
    (folder / "summary.csv").write_text(text.getvalue(), encoding="utf-8", newline="")
    head, rows = _cells(lines)
    shown = [head, ["---"] * len(head), *rows]
    markdown = "\n".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in shown
    )
    (folder / "summary.md").write_text(f"# {folder.name}\n\n{markdown}\n", encoding="utf-8")


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


def _plain(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


def _natural(value: str) -> tuple[int, float, str]:
    """Numbers before words, and in their own order."""
    try:
        return (0, float(value), "")
    except ValueError:
        return (1, 0.0, value)
