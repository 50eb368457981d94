"""The order of rows: a pure function of (seed, epoch), so that a resumed run finds its place.

    rows of epoch e   = permutation drawn from PCG64(seed, e)
    window w          = the next shuffle_window · batch_size rows of it
    batches of w      = its rows sorted by length, cut every batch_size, the cuts shuffled

Rows of a batch are then of similar length, and every row still meets every other one.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable, Sequence
from contextlib import suppress
from typing import TypeVar, overload

import numpy as np

__all__ = ["LengthGroupedSampler", "evaluation_batches", "prefetch", "split_into_micro_batches"]

Item = TypeVar("Item")


class LengthGroupedSampler:
    """Batches of row numbers for training; ``lengths`` [rows] in tokens.

    Every row comes once an epoch; one batch, of the last window, holds what is left over.
    """

    def __init__(
        self, lengths: np.ndarray, batch_size: int, seed: int, shuffle_window: int
    ) -> None:
        if len(lengths) == 0:
            raise ValueError("an order needs at least one row")
        self.lengths, self.batch_size = lengths, batch_size
        self.seed, self.shuffle_window = seed, shuffle_window

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self.lengths) // self.batch_size)

    def epoch_batches(self, epoch: int) -> Sequence[np.ndarray]:
        """The batches of epoch ``epoch_batches`` (from 0), each made when it is asked for."""
        return _EpochBatches(self, epoch)


class _EpochBatches(Sequence[np.ndarray]):
    """Windows are sorted one at a time: jumping to any batch costs one window, not an epoch."""

    def __init__(self, sampler: LengthGroupedSampler, epoch: int) -> None:
        self._sampler, self._epoch = sampler, epoch
        count = len(sampler.lengths)
        index_dtype = np.int32 if count < 2**31 else np.int64
        generator = np.random.Generator(np.random.PCG64([sampler.seed, epoch]))
        self._shuffled_rows = np.arange(count, dtype=index_dtype)
        generator.shuffle(self._shuffled_rows)
        self._cached_window: tuple[int, list[np.ndarray]] = (-1, [])

    def __len__(self) -> int:
        return self._sampler.steps_per_epoch

    @overload
    def __getitem__(self, number: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, number: slice) -> list[np.ndarray]: ...
    def __getitem__(self, number: int | slice) -> np.ndarray | list[np.ndarray]:
        if isinstance(number, slice):
            return [self[each] for each in range(*number.indices(len(self)))]
        if not -len(self) <= number < len(self):
            raise IndexError(number)
        window, place = divmod(number % len(self), self._sampler.shuffle_window)
        if self._cached_window[0] != window:
            self._cached_window = (window, self._window_batches(window))
        return self._cached_window[1][place]

    def _window_batches(self, window: int) -> list[np.ndarray]:
        sampler = self._sampler
        size = sampler.shuffle_window * sampler.batch_size
        rows = self._shuffled_rows[window * size : (window + 1) * size].astype(np.int64)
        if sampler.shuffle_window > 1:
            rows = rows[np.argsort(sampler.lengths[rows], kind="stable")]
        batches = split_into_micro_batches(rows, sampler.batch_size)
        # spawn_key keeps this stream apart from the permutation's, also for window 0.
        seed_sequence = np.random.SeedSequence([sampler.seed, self._epoch], spawn_key=(window,))
        batch_order = np.random.Generator(np.random.PCG64(seed_sequence)).permutation(len(batches))
        return [batches[position] for position in batch_order]


def split_into_micro_batches(indices: np.ndarray, size: int) -> list[np.ndarray]:
    """``indices`` cut every ``size``; the last piece may be smaller."""
    return [indices[start : start + size] for start in range(0, len(indices), size)]


def evaluation_batches(
    lengths: np.ndarray, token_budget: int, max_rows: int = 256
) -> list[np.ndarray]:
    """Every row once, longest first: rows · longest ≤ ``token_budget`` in each batch.

    A row longer than the whole budget gets a batch of its own. Longest first, because memory
    that does not suffice then shows at once.
    """
    rows = np.argsort(-lengths.astype(np.int64), kind="stable")
    batches, start = [], 0
    while start < len(rows):
        longest = max(1, int(lengths[rows[start]]))
        size = min(max_rows, max(1, token_budget // longest))
        batches.append(rows[start : start + size])
        start += size
    return batches


def prefetch(iterable: Iterable[Item], depth: int = 2) -> Generator[Item, None, None]:
    """The items of ``iterable``, made up to ``depth`` ahead in a background thread.

    An exception in ``iterable`` is raised at its place. Closing the generator (which leaving a
    ``for`` loop does) ends the thread before it returns.
    """
    ready: queue.Queue[tuple[str, Item | BaseException | None]] = queue.Queue(maxsize=depth)
    stop = threading.Event()

    def work() -> None:
        try:
            for item in iterable:
                ready.put(("item", item))
                if stop.is_set():
                    return
            ready.put(("end", None))
        except BaseException as error:  # raised again in the consumer's thread
            ready.put(("error", error))

    thread = threading.Thread(target=work, name="bertft-prefetch", daemon=True)
    thread.start()
    try:
        while True:
            kind, item = ready.get()
            if kind == "end":
                return
            if kind == "error":
                assert isinstance(item, BaseException)
                raise item
            yield item  # type: ignore[misc]
    finally:
        stop.set()
        while thread.is_alive():  # a put that waits for room must be let through
            with suppress(queue.Empty):
                ready.get_nowait()
            thread.join(timeout=0.01)
