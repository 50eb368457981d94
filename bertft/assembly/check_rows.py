"""About 64 validation rows in the run folder, on which a merge is compared with the adapter."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa

from bertft.data.rows import Rows
from bertft.errors import DataError
from bertft.runs.atomic import environment, write_text

__all__ = ["COUNT", "read_check_rows", "write_check_rows"]

COUNT = 64


def write_check_rows(file: Path, rows: Rows) -> str:
    """Leave ``COUNT`` of ``rows``, spread over all of them, as JSON lines; their sha256."""
    count = min(COUNT, len(rows))
    content = rows.table.take(pa.array(np.arange(count) * len(rows) // count)).to_pylist()
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in content)
    with environment(file):
        write_text(file, text)
    return hashlib.sha256(text.encode()).hexdigest()


def read_check_rows(file: Path) -> Rows:
    """DataError if they are missing or damaged."""
    try:
        # Not splitlines: a text may hold U+2028 and its kin.
        lines = file.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        rows = [json.loads(line) for line in lines]
        return Rows(pa.Table.from_pylist(rows), str(file))
    except (OSError, ValueError, RecursionError, AttributeError, pa.ArrowInvalid) as error:
        raise DataError(
            f"the rows to check a merge with cannot be read ({error})", where=str(file),
            hint="They are written when training begins; restore the run folder",
        ) from error  # fmt: skip
