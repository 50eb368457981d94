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
    """The values as Python objects; bytes, which older writers use for text, are decoded.

    Undecodable bytes become U+DCxx and are reported with the row. A column of strings can have
    them too, because few writers check its content.
    """
    try:
        values = array.to_pylist()
    except UnicodeDecodeError:
        values = array.cast(_bytes_type(array.type)).to_pylist()
    return [_decode(value) if isinstance(value, (bytes, list)) else value for value in values]


def _bytes_type(arrow_type: pa.DataType) -> pa.DataType:
    """``arrow_type`` with bytes in place of strings."""
    if pa.types.is_dictionary(arrow_type):
        return _bytes_type(arrow_type.value_type)
    if pa.types.is_list(arrow_type) or pa.types.is_large_list(arrow_type):
        return pa.large_list(_bytes_type(arrow_type.value_type))
    is_text = pa.types.is_string(arrow_type) or pa.types.is_string_view(arrow_type)
    if is_text or pa.types.is_large_string(arrow_type):
        return pa.large_binary()
    return arrow_type


def _decode(value: Any) -> Any:
    """``value`` with text in place of bytes, also in lists."""
    if isinstance(value, list):
        return [_decode(item) for item in value]
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
