"""Work ahead in background threads, for code that releases the GIL: reading, parsing, tokenizing.

    prefetch(iterable)            the next items of an iterable, one after another
    map_ahead(function, items)    function(item) of the next items, several at the same time

Both keep the order of the items and compute a bounded number of them ahead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeVar

__all__ = ["map_ahead", "prefetch"]

Item = TypeVar("Item")
Result = TypeVar("Result")
_THREAD_NAME = "bertft-prefetch"


def prefetch(iterable: Iterable[Item], depth: int = 2) -> Generator[Item, None, None]:
    """The items of ``iterable``, computed up to ``depth`` ahead in a background thread.

    An exception in ``iterable`` is raised at the same position. Closing the generator (as leaving a
    ``for`` loop does) ends the thread before it returns.
    """
    iterator = iter(iterable)
    end: Any = object()
    context = copy_context()  # such as the log of warnings

    def take_next() -> Any:
        return context.run(lambda: next(iterator, end))

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix=_THREAD_NAME) as executor:
        futures = deque(executor.submit(take_next) for _ in range(depth))
        try:
            while (item := futures.popleft().result()) is not end:
                futures.append(executor.submit(take_next))
                yield item
        finally:
            executor.shutdown(wait=True, cancel_futures=True)


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int
) -> Generator[tuple[Item, Result], None, None]:
    """(item, ``function(item)``) of each item, computed by ``threads`` threads.

    At most one item more than there are threads is taken from ``items`` ahead. With one thread
    nothing is computed ahead. Exceptions and closing as in ``prefetch``.
    """
    if threads <= 1:
        for item in items:
            yield item, function(item)
        return
    with ThreadPoolExecutor(max_workers=threads, thread_name_prefix=_THREAD_NAME) as executor:
        pending: deque[tuple[Item, Future[Result]]] = deque()
        try:
            for item in items:
                pending.append((item, executor.submit(function, item)))
                if len(pending) > threads:
                    first, future = pending.popleft()
                    yield first, future.result()
            while pending:
                first, future = pending.popleft()
                yield first, future.result()
        finally:
            executor.shutdown(wait=True, cancel_futures=True)
