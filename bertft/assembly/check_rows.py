"""About 64 validation rows in the run folder, on which a merge is compared with the adapter."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa

from bertft.data.rows import Rows
from bertft.errors import DataError
from bertft.runs.atomic import write_text

__all__ = ["COUNT", "read_check_rows", "write_check_rows"]

COUNT = 64


def write_check_rows(file: Path, rows: Rows) -> None:
    """Leave the first ``COUNT`` of ``rows`` as JSON lines."""
    content = rows.table.slice(0, COUNT).to_pylist()
    write_text(file, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in content))


def read_check_rows(file: Path) -> Rows:
    """DataError if they are missing or damaged."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        return Rows(pa.Table.from_pylist(rows), str(file))
    except (OSError, ValueError, pa.ArrowInvalid) as error:
        raise DataError(
            f"the rows to check a merge with cannot be read ({error})", where=str(file),
            hint="They are written when training begins; restore the run folder",
        ) from error  # fmt: skip
