"""The files and the table of a cross-validation.

out_of_fold.jsonl       one object per row and repetition, in the order of the rows
cross_validation.json   mean, std, interval and values of each metric
summary.csv, .md        one line per fold; the table of the metrics
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator
from typing import Any

from bertft.cross_validation.result import CrossValidation, MetricSummary
from bertft.data.rows import decode_line
from bertft.export.markdown import escape_markdown, item_to_markdown
from bertft.tasks.report_items import TableCell, TableItem
from bertft.utils.atomic_io import atomic_write_bytes, atomic_write_text
from bertft.utils.numbers import format_score

__all__ = [
    "PREDICTIONS_FILE",
    "RESULT_FILE",
    "fold_table",
    "metric_table",
    "row_location",
    "write_files",
]

PREDICTIONS_FILE = "out_of_fold.jsonl"
RESULT_FILE = "cross_validation.json"


def write_files(result: CrossValidation) -> None:
    """Write all files. They have no times: the same command writes the same bytes."""
    folder = result.folder
    lines = (json.dumps(entry, ensure_ascii=False) for entry in _iter_predictions(result))
    content = "".join(f"{line}\n" for line in lines)
    atomic_write_bytes(folder / PREDICTIONS_FILE, content.encode("utf-8", "backslashreplace"))
    atomic_write_text(folder / RESULT_FILE, json.dumps(_as_json(result), indent=1))
    atomic_write_bytes(folder / "summary.csv", _summary_csv(result).encode())
    table = metric_table(result)
    text = "\n\n".join(
        [f"# {escape_markdown(folder.name)}", item_to_markdown(table), escape_markdown(table.note)]
    )
    atomic_write_text(folder / "summary.md", f"{text}\n")


def row_location(result: CrossValidation, line: int) -> dict[str, Any]:
    """``line`` of a row, with its ``file`` if there are several."""
    number, file_index = decode_line(line)
    files = result.rows.bad.files
    return {"file": files[file_index][0], "line": number} if files else {"line": number}


def _iter_predictions(result: CrossValidation) -> Iterator[dict[str, Any]]:
    """Location, fold, label and prediction of each row, by repetition and row."""
    entries = [
        (fold.repeat, int(line), fold.fold, prediction)
        for fold in result.folds
        for line, prediction in zip(fold.outputs.lines, fold.outputs.predictions, strict=True)
    ]
    for repeat, line, fold, prediction in sorted(entries, key=lambda entry: entry[:2]):
        place = {"fold": fold} | ({"repeat": repeat} if result.repeats > 1 else {})
        yield row_location(result, line) | place | prediction


def _as_json(result: CrossValidation) -> dict[str, Any]:
    return {
        "folds": result.fold_count,
        "repeats": result.repeats,
        "rows": len(result.rows),
        "metric": result.task.metric,
        "metrics": {summary.name: _summary_json(summary) for summary in result.metrics},
    }


def _summary_json(summary: MetricSummary) -> dict[str, Any]:
    return {
        "mean": _finite(summary.mean),
        "std": _finite(summary.std),
        "interval": summary.interval,
        "values": [_finite(value) for value in summary.values],
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _summary_csv(result: CrossValidation) -> str:
    text = io.StringIO(newline="")
    table = csv.writer(text)
    names = [summary.name for summary in result.metrics]
    table.writerow(["repeat", "fold", "training_rows", "rows", "step", *names, "folder"])
    for fold in result.folds:
        values = [fold.metrics.get(name, "") for name in names]
        sizes = [fold.training_rows, len(fold.outputs.lines), fold.step]
        table.writerow([fold.repeat, fold.fold, *sizes, *values, fold.folder.name])
    return text.getvalue()


def metric_table(result: CrossValidation) -> TableItem:
    """One row per metric: mean, std and interval, and the lowest and highest fold."""
    rows: list[list[TableCell]] = [
        [
            summary.name,
            _finite(summary.mean),
            _finite(summary.std),
            "–" if summary.interval is None else " – ".join(map(format_score, summary.interval)),
            min(filter(math.isfinite, summary.values), default=None),
            max(filter(math.isfinite, summary.values), default=None),
        ]
        for summary in result.metrics
    ]
    undefined = [one.name for one in result.metrics if not all(map(math.isfinite, one.values))]
    note = f" Metrics without a mean are undefined in a fold: {', '.join(undefined)}."
    repeats = f", {result.repeats} repetitions" if result.repeats > 1 else ""
    return TableItem(
        "metrics",
        f"Cross-validation, {result.fold_count} folds{repeats}",
        "The std is that of the folds. Their training rows overlap, so that it is not a standard"
        " error. The interval is a bootstrap over the"
        f" {'groups' if result.schema.group_field is not None else 'rows'}."
        f"{note if undefined else ''}",
        head=("metric", "mean", "std", "95 % interval", "lowest fold", "highest fold"),
        rows=rows,
        strong=(0,),
        kinds=("word", "number", "number", "number", "number", "number"),
    )


def fold_table(result: CrossValidation) -> TableItem:
    """One row per fold: its rows, and the metrics on them."""
    names = [summary.name for summary in result.metrics]
    rows: list[list[TableCell]] = []
    for fold in result.folds:
        number = f"{fold.repeat}.{fold.fold}" if result.repeats > 1 else str(fold.fold)
        sizes = [fold.training_rows, len(fold.outputs.lines), fold.step]
        rows.append([number, *sizes, *(fold.metrics.get(name) for name in names)])
    return TableItem(
        "folds",
        "Folds",
        "Each model was trained on the training rows, and its checkpoint was chosen on validation"
        " rows, both from outside of the fold.",
        head=("fold", "training rows", "rows", "step", *names),
        rows=rows,
        kinds=("word", *["number"] * (len(names) + 3)),
    )
