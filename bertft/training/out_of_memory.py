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

__all__ = ["in_halves", "retried"]

Value = TypeVar("Value")
Again = Callable[[np.ndarray], Batch]


def retried(
    passes: Callable[[Sequence[Batch]], Value],
    batches: Sequence[Batch],
    smaller: Callable[[], Sequence[Batch] | None],
    undo: Callable[[], None],
) -> Value:
    """``passes(batches)``; after OutOfMemoryError ``undo()`` and again with ``smaller()``.

    ``smaller`` gives the same rows in halved batches, None where a pass has one row already: then
    the error stands.
    """
    while True:
        failed: torch.OutOfMemoryError | None = None
        try:
            return passes(batches)
        except torch.OutOfMemoryError as error:
            failed = error.with_traceback(None)  # its frames hold the activations of the pass
        undo()
        halved = smaller()
        if halved is None:
            raise failed
        batches = halved
        _let_go()


def in_halves(work: Callable[[Batch], Value], batch: Batch, again: Again) -> Iterator[Value]:
    """``work`` on a batch; after OutOfMemoryError on its two halves, made by ``again``, and so on.

    The rows stay in order. Where one row is too much the error stands.
    """
    failed: torch.OutOfMemoryError | None = None
    try:
        found = work(batch)
    except torch.OutOfMemoryError as error:
        failed = error.with_traceback(None)
    if failed is None:
        yield found
        return
    if len(batch) <= 1:
        raise failed
    _let_go()
    middle = len(batch) // 2
    for part in (batch.index[:middle], batch.index[middle:]):
        yield from in_halves(work, again(part), again)


def _let_go() -> None:
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
