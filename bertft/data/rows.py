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

from bertft.data.bad_rows import place

__all__ = ["Rows"]


@dataclass
class Rows:
    """``table``: the columns of the task's form (``data.forms``), maybe ``label``, and ``line``.

    Usually these are ``text``, maybe ``text_pair`` (strings), and a ``label`` that is a string
    (classes), a float64 (regression) or a list of strings (several labels).
    ``line`` is the line of ``source`` (a path, a Hub id or a sample's name) that a row starts on,
    from 1; rows that have no lines count from 1, ``unit`` saying what. ``skipped`` counts the bad
    rows left out, by reason; ``files`` are the absolute paths read. ``chosen``, int32 ascending:
    which rows of ``table`` these are; None: all. ``notes``: what the reader noticed.

    ``read``: rows that the source had; −1: those here and those skipped. ``unused``: good rows
    that are not in this split, by reason. ``blank``: blank lines; ``other_lines``: those that
    begin no row, by kind. ``dropped``: ignored parts of rows that are used, by reason.
    ``first``: (line, what is wrong) of the first bad rows; ``every``: of all of them, where it
    was asked for, and ``ids``: their own ids by line, of those that have one.
    """

    table: pa.Table
    source: str
    skipped: Counter[str] = field(default_factory=Counter)
    files: tuple[str, ...] = ()
    unit: str = ""
    chosen: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    read: int = -1
    blank: int = 0
    other_lines: Counter[str] = field(default_factory=Counter)
    unused: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    first: list[tuple[int, str]] = field(default_factory=list)
    every: list[tuple[int, str]] | None = None
    ids: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.read < 0:
            self.read = len(self) + self.skipped.total() + self.unused.total()

    def __len__(self) -> int:
        return self.table.num_rows if self.chosen is None else len(self.chosen)

    @property
    def columns(self) -> list[str]:
        return self.table.column_names

    @property
    def labelled(self) -> bool:
        return "label" in self.table.column_names

    def column(self, name: str) -> list[Any]:
        """A column as Python values."""
        return self.values(name).to_pylist()

    def values(self, name: str) -> pa.ChunkedArray:
        """A column; where the rows are chosen ones, a copy."""
        return self.slice(0, len(self), [name]).column(name)

    def cell(self, name: str, row: int) -> Any:
        """The value of a row in a column."""
        return self.table.column(name)[self._place(row)].as_py()

    def where(self, row: int) -> str:
        """``source:line`` of a row."""
        return place(self.source, self.cell("line", row), self.unit)

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
            "blank_lines": self.blank,
            "other_lines": dict(self.other_lines),
        }

    def keep(self, mask: np.ndarray, why: str = "not chosen") -> Rows:
        """The rows where ``mask`` [rows] is true, in their order; ``why`` the others are not."""
        chosen = np.flatnonzero(mask) if self.chosen is None else self.chosen[mask]
        # Each counts on its own what was skipped.
        kept = replace(
            self, chosen=chosen.astype(np.int32), skipped=Counter(self.skipped),
            unused=self.unused + Counter({why: len(self) - len(chosen)}),
        )  # fmt: skip
        if len(kept) > _FEW * self.table.num_rows:
            return kept
        # A few are copied: the table may be in memory, and would be held for them.
        return replace(kept, table=kept.slice(0, len(kept)), chosen=None)

    def slice(self, start: int, size: int, names: Sequence[str] | None = None) -> pa.Table:
        """At most ``size`` rows from ``start`` on; of the columns ``names`` (None: all)."""
        table = self.table if names is None else self.table.select(list(names))
        if self.chosen is None:
            return table.slice(start, size)
        places = self.chosen[start : start + size]
        if not len(places):
            return table.slice(0, 0)
        first, last = int(places[0]), int(places[-1])
        mask = np.zeros(last - first + 1, dtype=bool)
        mask[places - first] = True
        return table.slice(first, len(mask)).filter(pa.array(mask))

    def slices(self, size: int, names: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """All of them in pieces of at most ``size`` rows."""
        for start in range(0, len(self), size):
            yield self.slice(start, size, names)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over what the rows say: names, types and values, not where they stand."""
        digest = hashlib.sha256()
        for name in sorted(self.columns):
            if name != "line":
                kind = self.table.schema.field(name).type
                digest.update(f"{name}:{kind}:{len(self)};".encode())
                for piece in self.slices(_CHUNK, [name]):
                    _digest(digest, piece.column(name).combine_chunks())
        return digest.hexdigest()

    def _place(self, row: int) -> int:
        return int(row if self.chosen is None else self.chosen[row])


_CHUNK = 65_536
_FEW = 1 / 8  # of a table


def _digest(digest: Any, column: pa.Array | pa.ChunkedArray) -> None:
    """Feed values without regard to how Arrow cut or padded its buffers."""
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.nulls(0)
    if column.null_count:
        digest.update(np.asarray(column.is_null()).tobytes())
        column = column.drop_null()
    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        digest.update(np.asarray(column.value_lengths(), dtype=np.int64).tobytes())
        _digest(digest, column.flatten())
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        lengths = pa.compute.binary_length(column)
        digest.update(np.asarray(lengths, dtype=np.int64).tobytes())
        digest.update("".join(column.to_pylist()).encode())
    else:
        digest.update(np.ascontiguousarray(column.to_numpy(zero_copy_only=False)).tobytes())
