"""The table of a sweep: a line for each combination, its metric as mean ± std over the seeds.

``read_jobs(folder)`` reads the job folders, ``lines_of`` groups them, ``write`` leaves
summary.csv and summary.md, ``show`` prints. The std is the sample's (n − 1), none for one seed.
"""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["JOB_FILE", "JobResult", "Line", "lines_of", "read_jobs", "show", "write"]

JOB_FILE = "job.json"
_SEED = "seed"
_FILE_WIDTH = 200  # where no terminal sets one


@dataclass(frozen=True)
class JobResult:
    """One job: what was set, and its metrics.json (None: it failed or was cut off)."""

    folder: Path
    settings: dict[str, str]
    error: str | None
    metrics: dict[str, Any] | None

    @property
    def bytes(self) -> int | None:
        """Size on disk of the best checkpoint, without what only training goes on with."""
        if self.metrics is None:
            return None
        step = self.metrics["best"]["step"]
        files = (self.folder / "checkpoints" / f"step-{step}").rglob("*")
        return sum(f.stat().st_size for f in files if f.is_file() and f.stem != "state")


@dataclass(frozen=True)
class Line:
    """Jobs that differ by nothing but their seed."""

    settings: dict[str, str]
    metric: str | None
    mean: float | None
    std: float | None
    runs: int
    failed: int
    parameters: int | None
    bytes: int | None
    seconds: float | None
    peak_memory_bytes: int | None
    error: str | None
    best: bool = False


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


def lines_of(jobs: Sequence[JobResult], lower_is_better: Iterable[str] = ("loss",)) -> list[Line]:
    """A line for each combination of the settings in which the jobs differ, the seed aside.

    The best is marked among lines of one metric on the same data.
    """
    names = _differing(jobs)
    groups: dict[tuple[str, ...], list[JobResult]] = {}
    for job in jobs:
        key = tuple(job.settings.get(name, "") for name in names)
        groups.setdefault(key, []).append(job)
    lines = [_line(dict(zip(names, key, strict=True)), group) for key, group in groups.items()]
    lower = frozenset(lower_is_better)
    leaders: dict[tuple[str, ...], Line] = {}
    for line in lines:
        if line.metric is None or line.mean is None:
            continue
        race = (line.metric, *(v for k, v in line.settings.items() if k.split(".")[0] == "data"))
        leader = leaders.get(race)
        sign = -1 if line.metric in lower else 1
        if leader is None or _rank(line, sign) > _rank(leader, sign):
            leaders[race] = line
    best = {id(line) for line in leaders.values()}
    return [Line(**{**vars(line), "best": id(line) in best}) for line in lines]


def _rank(line: Line, sign: int) -> tuple[float, int]:
    """Of equal results the one with fewer parameters leads."""
    return sign * (line.mean or 0.0), -(line.parameters or 0)


def write(folder: Path, lines: Sequence[Line]) -> None:
    """Leave summary.csv (numbers as they are) and summary.md (numbers to read) in ``folder``."""
    text = io.StringIO(newline="")
    names = list(lines[0].settings) if lines else []
    columns = [name for name in Line.__dataclass_fields__ if name != "settings"]
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
    from rich.console import Console
    from rich.table import Table

    head, rows = _cells(lines)
    table = Table(*head)
    for row, line in zip(rows, lines, strict=True):
        note = row[-1].partition(":")[0]
        style = "bold" if line.best else "dim" if line.mean is None else None
        table.add_row(*row[:-1], note, style=style)
    console = Console()
    if not console.is_terminal:
        console = Console(width=_FILE_WIDTH)
    console.print(table)
    for line in lines:
        if line.failed:
            name = " ".join(f"{key}={value}" for key, value in line.settings.items())
            console.print(f"failed: {name}: {line.error}", markup=False, highlight=False)


def _line(settings: dict[str, str], jobs: Sequence[JobResult]) -> Line:
    done = [(job, job.metrics) for job in jobs if job.metrics is not None]
    failed = [job for job in jobs if job.metrics is None]
    values = [metrics["best"]["value"] for _, metrics in done]
    seconds = [metrics["train"]["seconds"] for _, metrics in done]
    memory = [metrics["train"].get("peak_memory_bytes") for _, metrics in done]
    known = [each for each in memory if each is not None]
    sizes = [job.bytes or 0 for job, _ in done]
    return Line(
        settings,
        metric=done[0][1]["best"]["metric"] if done else None,
        mean=statistics.fmean(values) if done else None,
        std=statistics.stdev(values) if len(values) > 1 else None,
        runs=len(done),
        failed=len(failed),
        parameters=round(statistics.fmean(m["parameters"]["method"] for _, m in done))
        if done
        else None,
        bytes=round(statistics.fmean(sizes)) if done else None,
        seconds=statistics.fmean(seconds) if done else None,
        peak_memory_bytes=max(known, default=None),
        error=next((job.error or "cut off" for job in failed), None),
    )


def _cells(lines: Sequence[Line]) -> tuple[list[str], list[list[str]]]:
    names = list(lines[0].settings) if lines else []
    metrics = {line.metric for line in lines if line.metric is not None}
    title = next(iter(metrics)) if len(metrics) == 1 else "metric"
    head = [*names, title, "runs", "parameters", "on disk", "seconds", "peak memory", ""]
    rows = []
    for line in lines:
        value = "–"
        if line.mean is not None:
            value = f"{line.mean:.4f}" + (f" ± {line.std:.4f}" if line.std is not None else "")
            value = value if len(metrics) == 1 else f"{line.metric} {value}"
        note = "best" if line.best else ""
        if line.failed:
            note += f"{', ' if note else ''}{line.failed} failed: {line.error}"
        rows.append(
            [
                *line.settings.values(), value, str(line.runs),
                "–" if line.parameters is None else f"{line.parameters:,}",
                _size(line.bytes), "–" if line.seconds is None else f"{line.seconds:.1f}",
                _size(line.peak_memory_bytes), " ".join(note.split()),
            ]
        )  # fmt: skip
    return head, rows


def _differing(jobs: Sequence[JobResult]) -> list[str]:
    names = dict.fromkeys(name for job in jobs for name in job.settings if name != _SEED)
    several = [n for n in names if len({job.settings.get(n) for job in jobs}) > 1]
    return several or list(names)


def _size(count: int | None) -> str:
    if count is None:
        return "–"
    size, units = float(count), ["B", "kB", "MB", "GB"]
    while size >= 1000 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:.0f} B" if units[0] == "B" else f"{size:.1f} {units[0]}"


def _plain(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


def _natural(value: str) -> tuple[int, float, str]:
    """Numbers before words, and in their own order."""
    try:
        return (0, float(value), "")
    except ValueError:
        return (1, 0.0, value)
