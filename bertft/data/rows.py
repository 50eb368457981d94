"""``Rows``: the rows of one split as they were read, each able to say where it came from."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
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
    rows left out, by reason; ``files`` are the absolute paths read.
    """

    table: pa.Table
    source: str
    skipped: Counter[str] = field(default_factory=Counter)
    files: tuple[str, ...] = ()
    unit: str = ""

    def __len__(self) -> int:
        return self.table.num_rows

    @property
    def columns(self) -> list[str]:
        return self.table.column_names

    @property
    def labelled(self) -> bool:
        return "label" in self.table.column_names

    def column(self, name: str) -> list[Any]:
        """A column as Python values."""
        return self.table.column(name).to_pylist()

    def where(self, row: int) -> str:
        """``source:line`` of a row."""
        return place(self.source, self.table.column("line")[row].as_py(), self.unit)

    def keep(self, mask: np.ndarray) -> Rows:
        """The rows where ``mask`` [rows] is true, in their order."""
        kept = self.table.filter(pa.array(mask))
        return replace(self, table=kept, skipped=Counter(self.skipped))  # each counts on its own

    def chunks(self, size: int) -> Iterator[dict[str, list[Any]]]:
        """The columns in pieces of at most ``size`` rows, as lists."""
        for start in range(0, len(self), size):
            yield self.table.slice(start, size).to_pydict()

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over what the rows say: names, types and values, not where they stand."""
        digest = hashlib.sha256()
        for name in sorted(self.columns):
            if name != "line":
                column = self.table.column(name)
                digest.update(f"{name}:{column.type}:{len(column)};".encode())
                for start in range(0, len(column), _CHUNK):
                    _digest(digest, column.slice(start, _CHUNK).combine_chunks())
        return digest.hexdigest()


_CHUNK = 65_536


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
