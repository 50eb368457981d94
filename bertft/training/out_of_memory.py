"""Out of memory on an accelerator: the same rows again in smaller passes, gradients unchanged.

    micro-batch m → ⌈m / 2⌉ → …, the number of passes doubled, the rows of the step the same

Passes are sums over rows, so however they are cut, they add up to the gradients of the whole.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch

from bertft.data.batch import Batch

__all__ = ["split_on_oom", "retry_on_oom"]

Value = TypeVar("Value")
RebuildBatch = Callable[[np.ndarray], Batch]


def retry_on_oom(
    run_passes: Callable[[Sequence[Batch]], Value],
    batches: Sequence[Batch],
    make_smaller: Callable[[], Sequence[Batch] | None],
    reset: Callable[[], None],
) -> Value:
    """``run_passes(batches)``; after OutOfMemoryError ``reset()`` and again with ``make_smaller()``.

    ``make_smaller`` gives the same rows in halved batches, None where a pass has one row already: then
    the error stands.
    """
    while True:
        oom_error: torch.OutOfMemoryError | None = None
        try:
            return run_passes(batches)
        except torch.OutOfMemoryError as error:
            oom_error = error.with_traceback(None)  # its frames hold the activations of the pass
        reset()
        smaller_batches = make_smaller()
        if smaller_batches is None:
            raise oom_error
        batches = smaller_batches
        _free_memory()


def split_on_oom(run_batch: Callable[[Batch], Value], batch: Batch, rebuild: RebuildBatch) -> Iterator[Value]:
    """``run_batch`` on a batch; after OutOfMemoryError on its two halves, made by ``rebuild``, and so on.

    The rows stay in order. Where one row is too much the error stands.
    """
    oom_error: torch.OutOfMemoryError | None = None
    try:
        result = run_batch(batch)
    except torch.OutOfMemoryError as error:
        oom_error = error.with_traceback(None)
    if oom_error is None:
        yield result
        return
    if len(batch) <= 1:
        raise oom_error
    _free_memory()
    middle = len(batch) // 2
    for indices in (batch.feature_indices[:middle], batch.feature_indices[middle:]):
        yield from split_on_oom(run_batch, rebuild(indices), rebuild)


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
