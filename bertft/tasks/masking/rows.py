"""Rows of text without labels: a line of a .txt file, or a column of any other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from bertft.data.bad_rows import BadRows
from bertft.data.columns import Asked, asked
from bertft.data.row_form import RowForm
from bertft.data.separated import Record
from bertft.errors import DataError

__all__ = ["PlainRows"]


class PlainRows(RowForm):
    """One text a row; data.label is not looked at. Blank lines of a .txt file are no rows."""

    has_classes = False
    stratified = False

    def asked(self, labelled: bool = True) -> Asked:
        columns = asked(self.config, labelled=False)
        if len(columns.text) != 1:
            raise DataError("the text is in one column", where="data.text", hint="Name that one")
        return columns

    def read(self, path: Path, columns: Asked, bad: BadRows) -> Iterator[Record]:
        lines = path.suffix.lower() == ".txt"
        for line, fields in super().read(path, columns, bad):
            if not lines or fields[0].strip():
                yield line, fields

    def check(self, table: pa.Table, named: bool, bad: BadRows) -> None:
        """There are no labels."""

    def check_enough(self, table: pa.Table, bad: BadRows, training: bool) -> None:
        super().check_enough(table, bad, training=False)

    def classes(self, table: pa.Table, named: Any) -> None:
        return None
