"""Rows on which what is written is compared with what it was made from.

A run keeps about 64 of its validation rows for that. Of a model from elsewhere nothing is known but
its task: there, rows of a bundled sample stand in, of two texts where the task takes texts, so
that both token types occur. They have no labels that mean anything to the model, and so no metrics.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa

from bertft.config.data import DataConfig
from bertft.config.registry import TASKS
from bertft.data.rows import Rows
from bertft.data.schema import build_row_schema
from bertft.data.splits import load_sample_inputs
from bertft.errors import DataError
from bertft.utils.atomic_io import atomic_write_text, convert_write_errors
from bertft.utils.safe_files import read_regular_bytes

__all__ = ["CHECK_ROW_COUNT", "read_check_rows", "sample_check_rows", "write_check_rows"]

CHECK_ROW_COUNT = 64


def write_check_rows(file: Path, rows: Rows) -> str:
    """Write ``CHECK_ROW_COUNT`` of ``rows``, evenly spaced, as JSON Lines; return their sha256."""
    content = _evenly_spaced(rows).to_pylist()
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in content)
    with convert_write_errors(file):
        atomic_write_text(file, text)
    return hashlib.sha256(text.encode()).hexdigest()


def read_check_rows(file: Path, data: DataConfig | None = None, digest: str | None = None) -> Rows:
    """DataError if they are missing or damaged: not rows as ``data`` has them, or not ``digest``.

    ``digest``: their sha256 as the manifest has it.
    """
    try:
        content = read_regular_bytes(file)
        # Not splitlines: a text may hold U+2028 and its kin.
        lines = content.decode("utf-8").removesuffix("\n").split("\n")
        rows = [json.loads(line) for line in lines]
        names = list(rows[0])
        if not all(isinstance(row, dict) and list(row) == names for row in rows):
            raise ValueError("the rows have different columns")
        table = pa.Table.from_pylist(rows, _schema(names, data))
        if digest not in (None, hashlib.sha256(content).hexdigest()):
            raise ValueError("its sha256 is not the recorded one")
    except DataError as error:
        raise DataError(f"{_UNREADABLE} ({error.what})", where=str(file), hint=_HINT) from error
    except (ValueError, TypeError, RecursionError, OverflowError, pa.ArrowException) as error:
        first = str(error).split("\n")[0][:200]
        raise DataError(f"{_UNREADABLE} ({first})", where=str(file), hint=_HINT) from error
    return Rows(table, str(file))


_UNREADABLE = "the rows to check a merge with cannot be read"
_HINT = "They are written when training begins; restore the run folder"


def _schema(names: list[str], data: DataConfig | None) -> pa.Schema | None:
    """The columns ``names`` of rows of ``data``. ValueError where they are those of other rows."""
    if data is None:
        return None
    form = build_row_schema(data)
    needed = {*form.arrow_schema.names} & {*form.text_fields, "line"}
    fields = [
        field.with_nullable(field.name not in needed)
        for field in form.arrow_schema
        if field.name in names
    ]
    if {field.name for field in fields} != set(names) or not needed <= set(names):
        raise ValueError(f"its columns are {', '.join(names)[:80]}")
    return pa.schema(fields)


def sample_check_rows(task: str) -> Rows:
    """``CHECK_ROW_COUNT`` rows that a model of ``task`` can answer, always the same."""
    sample, columns = TASKS[task].sample
    text = list(columns) if isinstance(columns, tuple) else columns
    data = DataConfig(name="made", source="sample", sample=sample, task=task, text=text)
    rows = load_sample_inputs(data, "validation")
    return Rows(_evenly_spaced(rows), rows.source)


def _evenly_spaced(rows: Rows) -> pa.Table:
    count = min(CHECK_ROW_COUNT, len(rows))
    selected = np.zeros(len(rows), dtype=bool)
    selected[np.arange(count) * len(rows) // count] = True
    return rows.select(selected).slice(0, count)
