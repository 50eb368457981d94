"""``Rows``: the rows of one split as they were read, each able to say where it came from.

Rows that were chosen of those read are numbers of places in one table, not a copy of it: the table
of a large file is mapped, and what is chosen of it costs four bytes a row.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from bertft.data.bad_rows import format_location

__all__ = ["Rows"]


@dataclass
class Rows:
    """``table``: the columns of the task's form (``data.forms``), maybe ``label``, and ``line``.

    Usually these are ``text``, maybe ``text_pair`` (strings), and a ``label`` that is a string
    (classes), a float64 (regression) or a list of strings (several labels).
    ``line`` is the line of ``source`` (a path, a Hub id or a sample's name) that a row starts on,
    from 1; rows that have no lines count from 1, ``unit`` saying what. ``skipped`` counts the bad
    rows left out, by reason; ``files`` are the absolute paths read. ``row_indices``, int32 ascending:
    which rows of ``table`` these are; None: all. ``notes``: what the reader noticed.

    ``read``: rows that the source had; −1: those here and those skipped. ``unused``: good rows
    that are not in this split, by reason. ``blank_lines``: blank lines; ``other_lines``: those that
    begin no row, by kind. ``dropped``: ignored parts of rows that are used, by reason.
    ``first_errors``: (line, what is wrong) of the first bad rows; ``all_errors``: of all of them, where it
    was asked for, and ``ids``: their own ids by line, of those that have one.
    """

    table: pa.Table
    source: str
    skipped: Counter[str] = field(default_factory=Counter)
    files: tuple[str, ...] = ()
    unit: str = ""
    row_indices: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    read: int = -1
    blank_lines: int = 0
    other_lines: Counter[str] = field(default_factory=Counter)
    unused: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    first_errors: list[tuple[int, str]] = field(default_factory=list)
    all_errors: list[tuple[int, str]] | None = None
    ids: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.read < 0:
            self.read = len(self) + self.skipped.total() + self.unused.total()

    def __len__(self) -> int:
        return self.table.num_rows if self.row_indices is None else len(self.row_indices)

    @property
    def columns(self) -> list[str]:
        return self.table.column_names

    @property
    def has_labels(self) -> bool:
        return "label" in self.table.column_names

    def column(self, name: str) -> list[Any]:
        """A column as Python values."""
        return self.arrow_column(name).to_pylist()

    def arrow_column(self, name: str) -> pa.ChunkedArray:
        """A column; where the rows are chosen ones, a copy."""
        return self.slice(0, len(self), [name]).column(name)

    def value(self, name: str, row: int) -> Any:
        """The value of a row in a column."""
        return self.table.column(name)[self._table_index(row)].as_py()

    def location(self, row: int) -> str:
        """``source:line`` of a row."""
        return format_location(self.source, self.value("line", row), self.unit)

    def accounting(self) -> dict[str, Any]:
        """Where the rows of the source went, as JSON values.

        read = used + Σ skipped + Σ unused. Blank lines are not rows.
        """
        return {
            "read": self.read,
            "used": self.read - self.skipped.total() - self.unused.total(),
            "skipped": dict(self.skipped),
            "unused": dict(self.unused),
            "dropped": dict(self.dropped),
            "blank_lines": self.blank_lines,
            "other_lines": dict(self.other_lines),
        }

    def select(self, mask: np.ndarray, reason: str = "not chosen") -> Rows:
        """The rows where ``mask`` [rows] is true, in their order; ``reason`` the others are not."""
        row_indices = np.flatnonzero(mask) if self.row_indices is None else self.row_indices[mask]
        # Each counts on its own what was skipped.
        selected = replace(
            self, row_indices=row_indices.astype(np.int32), skipped=Counter(self.skipped),
            unused=self.unused + Counter({reason: len(self) - len(row_indices)}),
        )  # fmt: skip
        if len(selected) > _COPY_BELOW_SHARE * self.table.num_rows:
            return selected
        # A few are copied: the table may be in memory, and would be held for them.
        return replace(selected, table=selected.slice(0, len(selected)), row_indices=None)

    def slice(self, start: int, size: int, names: Sequence[str] | None = None) -> pa.Table:
        """At most ``size`` rows from ``start`` on; of the columns ``names`` (None: all)."""
        table = self.table if names is None else self.table.select(list(names))
        if self.row_indices is None:
            return table.slice(start, size)
        row_indices = self.row_indices[start : start + size]
        if not len(row_indices):
            return table.slice(0, 0)
        first, last = int(row_indices[0]), int(row_indices[-1])
        mask = np.zeros(last - first + 1, dtype=bool)
        mask[row_indices - first] = True
        return table.slice(first, len(mask)).filter(pa.array(mask))

    def iter_chunks(self, size: int, names: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """All of them in pieces of at most ``size`` rows."""
        for start in range(0, len(self), size):
            yield self.slice(start, size, names)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over what the rows say: names, types and values, not where they stand."""
        digest = hashlib.sha256()
        for name in sorted(self.columns):
            if name != "line":
                arrow_type = self.table.schema.field(name).type
                digest.update(f"{name}:{arrow_type}:{len(self)};".encode())
                for chunk in self.iter_chunks(_CHUNK_ROWS, [name]):
                    _update_digest(digest, chunk.column(name).combine_chunks())
        return digest.hexdigest()

    def _table_index(self, row: int) -> int:
        return int(row if self.row_indices is None else self.row_indices[row])


_CHUNK_ROWS = 65_536
_COPY_BELOW_SHARE = 1 / 8  # of a table


def _update_digest(digest: Any, column: pa.Array | pa.ChunkedArray) -> None:
    """Feed values without regard to how Arrow cut or padded its buffers."""
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.nulls(0)
    if column.null_count:
        digest.update(np.asarray(column.is_null()).tobytes())
        column = column.drop_null()
    arrow_type = column.type
    if pa.types.is_list(arrow_type) or pa.types.is_large_list(arrow_type):
        digest.update(np.asarray(column.value_lengths(), dtype=np.int64).tobytes())
        _update_digest(digest, column.flatten())
    elif pa.types.is_string(arrow_type) or pa.types.is_large_string(arrow_type):
        lengths = pa.compute.binary_length(column)
        digest.update(np.asarray(lengths, dtype=np.int64).tobytes())
        digest.update("".join(column.to_pylist()).encode())
    else:
        digest.update(np.ascontiguousarray(column.to_numpy(zero_copy_only=False)).tobytes())
