"""Check rows: a merged or exported model is compared with its source on these rows.

A run stores up to 64 of its validation rows. Other folders have no rows: a bundled sample for the
task is used, with pairs of texts if the task reads texts, so that both token types occur. Metrics
are not computed on the sample, because its labels are unrelated to the model.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa

from bertft.config.data import DataConfig
from bertft.config.registry import TASKS
from bertft.data.rows import BadRows, Rows
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
    """Read the rows that ``write_check_rows`` wrote.

    Args:
        data: settings of the run, which decide the columns; None: the columns are not checked.
        digest: the sha256 that the manifest records; None: it is not checked.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        content = read_regular_bytes(file)
        # Not splitlines: a text may contain other line separators, such as U+2028.
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
        reason = str(error).split("\n")[0][:200]
        raise DataError(f"{_UNREADABLE} ({reason})", where=str(file), hint=_HINT) from error
    return Rows(table, BadRows(str(file)))


_UNREADABLE = "the validation rows for checking merges and exports cannot be read"
_HINT = "Restore the file; it is written when training starts"


def _schema(names: list[str], data: DataConfig | None) -> pa.Schema | None:
    """The Arrow schema of the columns ``names``. ValueError if rows of ``data`` have others."""
    if data is None:
        return None
    row_schema = build_row_schema(data)
    required = {*row_schema.arrow_schema.names} & {*row_schema.text_fields, "line"}
    fields = [
        field.with_nullable(field.name not in required)
        for field in row_schema.arrow_schema
        if field.name in names
    ]
    if {field.name for field in fields} != set(names) or not required <= set(names):
        raise ValueError(f"unexpected columns {', '.join(names)[:80]}")
    return pa.schema(fields)


def sample_check_rows(task: str) -> Rows:
    """Return the same ``CHECK_ROW_COUNT`` rows of a bundled sample for each model of ``task``."""
    sample, columns = TASKS[task].sample
    text = list(columns) if isinstance(columns, tuple) else columns
    data = DataConfig(name=sample, source="sample", sample=sample, task=task, text=text)
    rows = load_sample_inputs(data, "validation")
    return Rows(_evenly_spaced(rows), BadRows(rows.source))


def _evenly_spaced(rows: Rows) -> pa.Table:
    count = min(CHECK_ROW_COUNT, len(rows))
    selected = np.zeros(len(rows), dtype=bool)
    selected[np.arange(count) * len(rows) // count] = True
    return rows.select(selected).slice(0, count)
