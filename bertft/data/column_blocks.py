"""Many rows of a large file at once, as Arrow columns, instead of one record after another.

A reader may yield a ``ColumnBlock`` in place of the records of rows that are certainly well-formed.
``RowSchema.parse_block`` then checks whole columns. Both give the same rows as the records: a block
that a schema does not check is taken apart into its records.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

__all__ = ["ColumnBlock", "array_values"]

_BINARY_TYPE_CHECKS = (
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_binary_view,
    pa.types.is_fixed_size_binary,
)


@dataclass(frozen=True)
class ColumnBlock:
    """Consecutive rows of a file.

    Attributes:
        first_line: the number of the first row; the others follow one by one.
        columns: the values of each requested column, None for a column that does not exist.
        size: the number of rows.
    """

    first_line: int
    columns: list[pa.Array | None]
    size: int

    @property
    def lines(self) -> pa.Array:
        """The number of each row, int64."""
        return pa.array(np.arange(self.first_line, self.first_line + self.size, dtype=np.int64))

    def records(self, rows: pa.Array | None = None) -> Iterator[tuple[int, list[Any]]]:
        """The rows one by one; ``rows``: only those with these indices, in their order."""
        indices = range(self.size) if rows is None else rows.to_pylist()
        columns: list[Iterable[Any]] = [
            [None] * len(indices)
            if column is None
            else array_values(column if rows is None else column.take(rows))
            for column in self.columns
        ]
        for index, fields in zip(indices, zip(*columns, strict=True), strict=True):
            yield self.first_line + index, list(fields)


def array_values(array: pa.Array) -> list[Any]:
    """The values as Python objects; bytes, which older writers use for text, are decoded."""
    arrow_type = array.type.value_type if pa.types.is_dictionary(array.type) else array.type
    values = array.to_pylist()
    if any(is_bytes(arrow_type) for is_bytes in _BINARY_TYPE_CHECKS):
        # Undecodable bytes are reported with the row.
        return [
            None if value is None else value.decode("utf-8", "surrogateescape") for value in values
        ]
    return values
