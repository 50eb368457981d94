"""A model's states for a whole feature table, in a memory-mapped file.

    cache/frozen/<key>.<crc32>.arrow        one column: [features, H], or [tokens, H]

The file is cached like the features. Its vectors are in the order in which they are computed, so
that memory is bounded by a batch. They have the bits that the model computed: bf16 and fp16 are
stored as int16, because Arrow has no bf16.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from bertft.data.cache import load_cached, store_cached
from bertft.data.features import FeatureTable, make_record_batch
from bertft.utils.status import show_status

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "STATES_FOLDER",
    "StateOrder",
    "StoredStates",
    "computing_states",
    "load_states",
    "store_states",
]

STATES_FOLDER = "frozen"  # inside the cache
_COLUMN, _METADATA_KEY = "states", b"bertft"
_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (torch.bfloat16, torch.float16, torch.float32, torch.float64)
}


@dataclass(frozen=True)
class StateOrder:
    """Which vectors a file has: those of ``features``, in this order.

    ``sizes`` [features of the table]: the vectors of each feature.
    """

    features: np.ndarray
    sizes: np.ndarray

    @property
    def vectors(self) -> int:
        """The number of vectors in the file."""
        return int(self.sizes.sum(dtype=np.int64))


class StoredStates:
    """``gather(indices)`` → the vectors of these features, end to end."""

    def __init__(self, file: FeatureTable, dtype: torch.dtype, order: StateOrder) -> None:
        self._file, self.dtype, self._sizes = file, dtype, order.sizes
        sizes = order.sizes[order.features]
        self._starts = np.empty(len(order.sizes), np.int64)
        self._starts[order.features] = np.cumsum(sizes, dtype=np.int64) - sizes

    def gather(self, indices: np.ndarray) -> Tensor:
        """The vectors [n, H] of the features ``indices``, in memory of torch."""
        sizes = self._sizes[indices].astype(np.int64)
        before = np.cumsum(sizes) - sizes
        positions = np.repeat(self._starts[indices] - before, sizes) + np.arange(sizes.sum())
        values = torch.from_numpy(self._file.gather(_COLUMN, positions))
        # Last bits of a product can depend on the alignment, which NumPy does not guarantee.
        states = torch.empty(values.shape, dtype=values.dtype).copy_(values)
        return states.view(self.dtype)


def load_states(cache: Path, key: str, order: StateOrder) -> StoredStates | None:
    """The states stored under ``key``; None if there is no intact file."""

    def read(path: Path) -> StoredStates:
        file = FeatureTable.open(path)
        try:
            dtype = _DTYPES[json.loads((file.schema.metadata or {})[_METADATA_KEY])["dtype"]]
            if file.columns != (_COLUMN,) or len(file) != order.vectors:
                raise ValueError("unexpected columns or number of vectors")
        except (LookupError, TypeError, ValueError) as error:
            raise pa.ArrowInvalid(f"not a file of states: {error}") from error
        return StoredStates(file, dtype, order)

    return load_cached(cache / STATES_FOLDER, key, read)


def store_states(
    cache: Path, key: str, blocks: Iterable[Tensor], dtype: torch.dtype, order: StateOrder
) -> StoredStates:
    """Write ``blocks`` [n, H] of vectors under ``key``. Raises SystemResourceError if that fails.

    Args:
        blocks: Tensors of ``dtype`` on the CPU, in the order of ``order``.
    """
    metadata = {_METADATA_KEY: json.dumps({"dtype": str(dtype).removeprefix("torch.")})}
    stored_dtype = torch.int16 if dtype.itemsize == 2 else dtype

    def make_batches() -> Iterator[pa.RecordBatch]:
        for block in blocks:
            values = block.contiguous().view(stored_dtype).numpy()
            batch: pa.RecordBatch = make_record_batch({_COLUMN: values})
            yield batch.replace_schema_metadata(metadata)

    path = store_cached(cache / STATES_FOLDER, key, make_batches())
    return StoredStates(FeatureTable.open(path), dtype, order)


@contextlib.contextmanager
def computing_states(cache: Path) -> Iterator[None]:
    """Wait until no other process computes states for ``cache``, and let others wait.

    Jobs that run at the same time then compute the same states once. On a file system without
    locks nothing waits: each job computes them, and the files are the same.
    """
    folder, handle = cache / STATES_FOLDER, None
    with contextlib.suppress(OSError):  # ``store_states`` reports a folder that is not writable
        folder.mkdir(parents=True, exist_ok=True)
        handle = None if fcntl is None else os.open(folder, os.O_RDONLY)
    try:
        if handle is not None:
            with contextlib.suppress(OSError):
                _wait_for_lock(handle)
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _wait_for_lock(handle: int) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        show_status("waiting for a process that computes frozen layers")
        fcntl.flock(handle, fcntl.LOCK_EX)
