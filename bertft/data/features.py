"""Features: tokenized rows, and the Arrow file that holds them.

``featurize`` tokenizes rows in chunks into an Arrow IPC file, cache/features/<key>.<crc32>.arrow,
which is reused under its key. Memory is bounded by the chunk, not by the number of rows.

``FeatureTable`` maps that file into memory and reads in place. A flat column holds one value (or a
fixed number of values) per feature, a ragged one a variable number. The file holds any number of
record batches, so that it can be written as a stream. A gather computes absolute addresses into
the file,

    address(i) = base[batch of i] + (i − first[batch of i]),

and reads them all in one NumPy call: no Python per row. Only the bounds of the batches and one
int32 per feature (its length) are held.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa

from bertft.data.cache import load_cached, store_cached, write_arrow_file
from bertft.data.rows import RowError, Rows
from bertft.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "FEATURE_CACHE_VERSION",
    "ConcatFeatureTable",
    "EncodeFunction",
    "FeatureStates",
    "FeatureTable",
    "NoFeaturesError",
    "RaggedColumn",
    "feature_key",
    "featurize",
    "make_record_batch",
    "tokenizer_hash",
    "without_padding",
]

FEATURE_CACHE_VERSION = 2  # raise it when the same rows and settings should give other features
CHUNK_ROWS = 50_000
# Columns of a chunk of rows → columns of their features.
EncodeFunction = Callable[[Mapping[str, Sequence[Any]]], dict[str, Any]]


class NoFeaturesError(DataError):
    """Raised if no row has a feature."""


def featurize(
    rows: Rows,
    encode: EncodeFunction,
    key_parts: Sequence[Any],
    cache: Path | None,
    *,
    chunk: int = CHUNK_ROWS,
    progress: Callable[[int], None] | None = None,
    row_error: RowError | None = None,
) -> FeatureTable:
    """The features of ``rows``: from ``cache`` if it has them, else computed and cached.

    Args:
        encode: converts columns of a chunk of rows to feature columns (see ``make_record_batch``),
            with ``row`` counted from the first row of the chunk. A row may have any number of
            features.
        key_parts: JSON values that determine the results of ``encode``, together with the rows.
        cache: None keeps the table in memory.
        chunk: rows per chunk.
        progress: called with the number of rows of each chunk.
        row_error: why rows may have no features.

    Raises:
        DataError: there are no rows, or no features.
        SystemResourceError: the cache cannot be written.
    """
    if len(rows) == 0:
        raise DataError("there are no rows", where=rows.source)
    batches = _encode_chunks(rows, encode, chunk, progress, row_error)
    if cache is None:
        sink = pa.BufferOutputStream()
        write_arrow_file(batches, sink)
        table = FeatureTable(sink.getvalue())
    else:
        folder, key = cache / "features", feature_key(rows, key_parts)
        cached = load_cached(folder, key, FeatureTable.open)
        table = FeatureTable.open(store_cached(folder, key, batches)) if cached is None else cached
    table.rows = rows
    return table


def _encode_chunks(
    rows: Rows,
    encode: EncodeFunction,
    chunk: int,
    progress: Callable[[int], None] | None,
    row_error: RowError | None,
) -> Iterator[pa.RecordBatch]:
    schema, rows_before = None, 0
    for rows_chunk in rows.iter_chunks(chunk):
        features = dict(encode(rows_chunk.to_pydict()))
        features["row"] = np.asarray(features["row"], dtype=np.int64) + rows_before
        rows_before += rows_chunk.num_rows
        if len(features["row"]):
            batch = make_record_batch(features, schema)
            schema = batch.schema
            yield batch
        if progress is not None:
            progress(rows_chunk.num_rows)
    if schema is None:
        reason, hint = ("", None) if row_error is None else (row_error.detail, row_error.hint)
        problem = f"no row can be encoded: {reason}" if reason else "no row can be encoded"
        raise NoFeaturesError(problem, where=rows.source, hint=hint)


def feature_key(rows: Rows, parts: Sequence[Any]) -> str:
    """Key of the features of ``rows``; ``parts`` are JSON values."""
    content = json.dumps([FEATURE_CACHE_VERSION, rows.fingerprint, list(parts)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """sha256 of everything that determines a tokenizer's output, independent of its path.

    Its stored truncation and padding are left out: they are settings of a call, arbitrary in files,
    and every call with other ones changes them in the object.
    """
    digest = hashlib.sha256(type(tokenizer).__name__.encode())
    if getattr(tokenizer, "backend_tokenizer", None) is not None:
        with without_padding(tokenizer) as backend:
            digest.update(backend.to_str().encode())
    else:
        with tempfile.TemporaryDirectory() as folder:
            tokenizer.save_pretrained(folder)
            for path in sorted(Path(folder).iterdir()):
                digest.update(path.name.encode() + path.read_bytes())
    settings = [
        getattr(tokenizer, name, None)
        for name in ("model_input_names", "truncation_side", "special_tokens_map")
    ]
    digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
    return digest.hexdigest()


@contextmanager
def without_padding(tokenizer: PreTrainedTokenizerBase) -> Iterator[Any]:
    """The backend ``tokenizers.Tokenizer`` without truncation and padding, which are restored.

    None for a slow tokenizer, which applies neither by default.
    """
    if not getattr(tokenizer, "is_fast", False):
        yield None
        return
    backend = tokenizer.backend_tokenizer
    truncation, padding = backend.truncation, backend.padding
    backend.no_truncation()
    backend.no_padding()
    try:
        yield backend
    finally:
        if truncation is not None:
            backend.enable_truncation(**truncation)
        if padding is not None:
            backend.enable_padding(**padding)


class FeatureStates(Protocol):
    """Vectors of the features of a table, one or more per feature."""

    def gather(self, indices: np.ndarray) -> Tensor:
        """The vectors of the features ``indices``, end to end."""


class FeatureTable:
    """``columns``: column names; always with ``input_ids`` (ragged int32) and ``row`` (int64).

    ``token_type_ids`` (ragged int8) exists if the tokenizer has them. ``row`` is the index of a
    feature's row in ``rows``, the rows of the table, which ``featurize`` sets. ``path``: the file;
    None for a table in memory. ``frozen_states``: stored states of a model for these features,
    which batches contain then.
    """

    rows: Rows
    frozen_states: FeatureStates | None = None

    def __init__(self, buffer: pa.Buffer, path: Path | None = None) -> None:
        """``buffer``: the bytes of an Arrow IPC file. Raises pa.ArrowInvalid if it is invalid."""
        self.path = path
        self._buffer = buffer
        reader = pa.ipc.open_file(buffer)
        batches = [reader.get_batch(index) for index in range(reader.num_record_batches)]
        self.schema: pa.Schema = reader.schema
        self.columns: tuple[str, ...] = tuple(reader.schema.names)
        self._batch_starts = np.cumsum([0, *(batch.num_rows for batch in batches)], dtype=np.int64)
        self._column_readers = {
            name: _ColumnReader(
                [batch.column(name) for batch in batches], reader.schema.field(name).type, buffer
            )
            for name in self.columns
        }

    @classmethod
    def open(cls, path: Path) -> FeatureTable:
        """Memory-map a file. Its pages are shared between processes and can be evicted."""
        with pa.memory_map(str(path)) as source:
            return cls(source.read_buffer(), path)

    def __len__(self) -> int:
        return int(self._batch_starts[-1])

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each feature, int32 [features]."""
        return np.concatenate([np.empty(0, np.int32), *self._column_readers["input_ids"].sizes()])

    def sizes(self, name: str, indices: np.ndarray) -> np.ndarray:
        """Number of values of a ragged column at each of ``indices``, int32."""
        starts, stops = self._column_readers[name].ragged_bounds(*self._locate(indices))
        return (stops - starts).astype(np.int32)

    def gather(self, name: str, indices: np.ndarray) -> np.ndarray:
        """The column at ``indices``, in that order, copied.

        Flat: [n] or [n, width]. Ragged: the concatenated values, [Σ ``sizes``].
        """
        reader = self._column_readers[name]
        locations = self._locate(indices)
        if not reader.is_ragged:
            return reader.gather_flat(*locations)
        start, stop = reader.ragged_bounds(*locations)
        sizes = stop - start
        result_start = np.cumsum(sizes) - sizes
        return reader.values(np.repeat(start - result_start, sizes) + np.arange(sizes.sum()))

    def iter_chunks(self, name: str) -> Iterator[np.ndarray]:
        """The column of all features as in ``gather``, one record batch at a time, not copied."""
        yield from self._column_readers[name].iter_chunks()

    def read_column(self, name: str) -> np.ndarray:
        """The column of all features, as in ``gather``."""
        return np.concatenate(list(self.iter_chunks(name)))

    def rows_with_features(self) -> np.ndarray:
        """Which of ``rows`` have a feature, bool [rows]."""
        has_features = np.zeros(len(self.rows), bool)
        for piece in self.iter_chunks("row"):
            has_features[piece] = True
        return has_features

    def is_ragged(self, name: str) -> bool:
        """Whether the number of values per feature varies in the column."""
        return self._column_readers[name].is_ragged

    def label_mask(self, indices: np.ndarray) -> np.ndarray | None:
        """Which of ``indices`` have labels, bool; None: all (see ``ConcatFeatureTable``)."""
        return None

    def _locate(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Record batch of each feature, and its index in the batch."""
        indices = np.asarray(indices, dtype=np.int64)
        if len(indices) and not (0 <= indices.min() and indices.max() < len(self)):
            raise IndexError(f"feature index out of range (0 to {len(self) - 1})")
        batch = np.searchsorted(self._batch_starts, indices, side="right") - 1
        return batch, indices - self._batch_starts[batch]


class ConcatFeatureTable(FeatureTable):
    """Two tables as one; columns that ``second`` lacks (labels) exist only for ``first``.

    ``row`` of ``second`` is counted from ``first_row_count``, the number of rows of ``first``.
    """

    def __init__(self, first: FeatureTable, second: FeatureTable, first_row_count: int) -> None:
        self.first, self.second, self.first_row_count = first, second, first_row_count
        self.path, self.schema, self.columns = None, first.schema, first.columns

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    @cached_property
    def lengths(self) -> np.ndarray:
        return np.concatenate([self.first.lengths, self.second.lengths])

    def iter_chunks(self, name: str) -> Iterator[np.ndarray]:
        yield from self.first.iter_chunks(name)
        if name not in self.second.columns:  # labels
            return
        for values in self.second.iter_chunks(name):
            yield values + self.first_row_count if name == "row" else values

    def label_mask(self, indices: np.ndarray) -> np.ndarray | None:
        return np.asarray(indices) < len(self.first)

    def is_ragged(self, name: str) -> bool:
        return self.first.is_ragged(name)

    def sizes(self, name: str, indices: np.ndarray) -> np.ndarray:
        indices = np.asarray(indices)
        in_first = indices < len(self.first)
        sizes = np.empty(len(indices), np.int32)
        sizes[in_first] = self.first.sizes(name, indices[in_first])
        sizes[~in_first] = self.second.sizes(name, indices[~in_first] - len(self.first))
        return sizes

    def gather(self, name: str, indices: np.ndarray) -> np.ndarray:
        indices = np.asarray(indices)
        in_first = indices < len(self.first)
        if in_first.all():
            return self.first.gather(name, indices)
        first_values = self.first.gather(name, indices[in_first])
        second_values = self.second.gather(name, indices[~in_first] - len(self.first))
        if name == "row":
            second_values = second_values + self.first_row_count
        if self.is_ragged(name):
            in_first = np.repeat(in_first, self.sizes(name, indices))
        values = np.empty((len(in_first), *first_values.shape[1:]), first_values.dtype)
        values[in_first], values[~in_first] = first_values, second_values
        return values


class _ColumnReader:
    """Reads one column of a file: ``arrays`` are its values, one array per record batch.

    The whole file is viewed as an array of the column's type, and the values of each record batch
    start at an index into that view. A value is located by its record batch and its position in it.
    """

    def __init__(
        self, arrays: Sequence[pa.Array], arrow_type: pa.DataType, file: pa.Buffer
    ) -> None:
        self.is_ragged = pa.types.is_large_list(arrow_type)
        self._batch_sizes = [len(array) for array in arrays]
        self.width = arrow_type.list_size if pa.types.is_fixed_size_list(arrow_type) else None
        is_nested = self.is_ragged or self.width is not None
        value_type = arrow_type.value_type if is_nested else arrow_type
        dtype = np.dtype(value_type.to_pandas_dtype())
        self._values = _view_as(file, dtype)
        # buffers(): validity, then offsets of a list, then validity of its values, then values
        self._value_starts = np.array(
            [_buffer_index(array.buffers()[-1], file, dtype) for array in arrays], np.int64
        )
        if self.is_ragged:
            offset_type = np.dtype(np.int64)
            self._offsets = _view_as(file, offset_type)
            self._offset_starts = np.array(
                [_buffer_index(array.buffers()[1], file, offset_type) for array in arrays],
                np.int64,
            )

    def gather_flat(self, batch: np.ndarray, position: np.ndarray) -> np.ndarray:
        """The values [n] or [n, width] of a flat column at the locations [n]."""
        if self.width is None:
            return self._values[self._value_starts[batch] + position]
        start = self._value_starts[batch] + position * self.width
        if not len(start):
            return np.empty((0, self.width), self._values.dtype)
        # Rows are copied as a whole: an index per value would take longer than the values.
        return np.lib.stride_tricks.sliding_window_view(self._values, self.width)[start]

    def ragged_bounds(
        self, batch: np.ndarray, position: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Start and stop [n], for ``values``, of a ragged column's lists at the locations [n]."""
        offset_indices, base = self._offset_starts[batch] + position, self._value_starts[batch]
        return base + self._offsets[offset_indices], base + self._offsets[offset_indices + 1]

    def values(self, value_indices: np.ndarray) -> np.ndarray:
        """The values at indices into the view of the file."""
        return self._values[value_indices]

    def sizes(self) -> Iterator[np.ndarray]:
        """Number of values per feature of a ragged column, int32, one array per record batch."""
        for batch, count in enumerate(self._batch_sizes):
            start = self._offset_starts[batch]
            yield np.diff(self._offsets[start : start + count + 1]).astype(np.int32)

    def iter_chunks(self) -> Iterator[np.ndarray]:
        """The values of each record batch, concatenated if the column is ragged."""
        for batch, count in enumerate(self._batch_sizes):
            start = self._value_starts[batch]
            if self.is_ragged:
                offsets_start = self._offset_starts[batch]
                first_offset = self._offsets[offsets_start]
                last_offset = self._offsets[offsets_start + count]
                yield self._values[start + first_offset : start + last_offset]
            elif self.width is None:
                yield self._values[start : start + count]
            else:
                values = self._values[start : start + count * self.width]
                yield values.reshape(count, self.width)


def _view_as(file: pa.Buffer, dtype: np.dtype) -> np.ndarray:
    return np.frombuffer(file, dtype=dtype, count=file.size // dtype.itemsize)


def _buffer_index(buffer: pa.Buffer | None, file: pa.Buffer, dtype: np.dtype) -> int:
    """Index of the first value of ``buffer`` in ``file`` viewed as ``dtype``."""
    if buffer is None or buffer.size == 0:
        return 0
    index, rest = divmod(buffer.address - file.address, dtype.itemsize)
    if rest or not 0 <= index * dtype.itemsize <= file.size - buffer.size:
        raise pa.ArrowInvalid("a buffer of the file is misplaced")
    return index


@dataclass(frozen=True)
class RaggedColumn:
    """Concatenated ``values`` of all features; ``sizes`` [features]: number of values of each."""

    values: np.ndarray
    sizes: np.ndarray


_DTYPES: dict[str, np.dtype] = {
    "input_ids": np.dtype(np.int32),
    "token_type_ids": np.dtype(np.int8),
}


def make_record_batch(
    features: Mapping[str, Any], schema: pa.Schema | None = None
) -> pa.RecordBatch:
    """Features as a record batch; the first of a table determines the ``schema`` of the others.

    A column is flat as a 1-D array or list of numbers, of fixed width as a 2-D array (not a list),
    and ragged as a list of lists or of 1-D arrays, or as a pair ``RaggedColumn(values, sizes)``.
    Lists of integers become int32 if ragged and int64 if flat, floats float32.
    """
    names = list(features) if schema is None else schema.names
    if set(names) != set(features):
        raise ValueError(f"unexpected columns {sorted(features)}: the table has {sorted(names)}")
    arrays = [
        _to_arrow(name, features[name], None if schema is None else schema.field(name).type)
        for name in names
    ]
    return pa.record_batch(arrays, names=names)


def _to_arrow(name: str, column: Any, arrow_type: pa.DataType | None) -> pa.Array:
    if isinstance(column, RaggedColumn):
        array = _ragged_array(column.values, column.sizes)
    elif isinstance(column, np.ndarray) and column.ndim == 2:
        flat = pa.array(np.ascontiguousarray(column).reshape(-1))
        array = pa.FixedSizeListArray.from_arrays(flat, column.shape[1])
    elif not isinstance(column, np.ndarray) and len(column) and np.ndim(column[0]) == 1:
        array = _ragged_array(*_concatenate_lists(column, _DTYPES.get(name)))
    elif isinstance(column, np.ndarray):
        array = pa.array(column)
    else:
        array = pa.array(_to_model_dtype(np.asarray(column), np.int64))
    return array if arrow_type is None else array.cast(arrow_type)


def _ragged_array(values: np.ndarray, sizes: np.ndarray) -> pa.Array:
    offsets = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
    return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), pa.array(values))


def _concatenate_lists(
    lists: Sequence[Any], dtype: np.dtype | None
) -> tuple[np.ndarray, np.ndarray]:
    sizes = np.fromiter(map(len, lists), np.int64, len(lists))
    arrays = [np.asarray(values, dtype=dtype) for values in lists if len(values)]
    values = np.concatenate(arrays) if arrays else np.empty(0, np.int32)
    return (values.astype(dtype) if dtype is not None else _to_model_dtype(values, np.int32)), sizes


def _to_model_dtype(values: np.ndarray, integer: type) -> np.ndarray:
    """Convert int64 and float64 from lists to the types that models use."""
    if values.dtype.kind in "iub":
        return values.astype(integer, copy=False)
    return values.astype(np.float32, copy=False)
