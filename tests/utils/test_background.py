"""Work in background threads: the order of items, and threads that end."""

from __future__ import annotations

import threading
import time
from contextvars import ContextVar

import pytest

from bertft.utils.background import map_ahead, prefetch


def prefetch_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("bertft-prefetch")]


def test_prefetch_keeps_order_and_ends_its_thread():
    assert list(prefetch(range(100), depth=3)) == list(range(100))
    assert prefetch_threads() == []


def test_prefetch_works_ahead_but_not_further_than_its_depth():
    made: list[int] = []
    has_three = threading.Event()

    def items():
        for number in range(100):
            made.append(number)
            if len(made) == 3:
                has_three.set()
            yield number

    stream = prefetch(items(), depth=2)
    assert next(stream) == 0 and prefetch_threads()
    assert has_three.wait(900)
    time.sleep(0.05)
    assert len(made) == 3, "the item that was returned, and two ahead"
    stream.close()
    assert prefetch_threads() == []


def test_prefetch_raises_at_the_same_position():
    def items():
        yield 1
        raise KeyError("broken")

    stream = prefetch(items())
    assert next(stream) == 1
    with pytest.raises(KeyError, match="broken"):
        next(stream)
    assert prefetch_threads() == []


def test_leaving_a_loop_ends_the_thread():
    for number in prefetch(iter(int, 1)):  # endless
        assert number == 0
        break
    assert prefetch_threads() == []


def test_an_error_of_the_consumer_ends_the_thread():
    with pytest.raises(ZeroDivisionError):  # noqa: PT012  (the loop is what is left)
        for number in prefetch(iter(int, 1)):
            1 / number
    del number
    assert prefetch_threads() == []


def test_map_ahead_keeps_order_and_is_bounded():
    taken: list[int] = []

    def items():
        for number in range(20):
            taken.append(number)
            yield number

    stream = map_ahead(lambda number: number * number, items(), threads=3)
    assert next(stream) == (0, 0) and len(taken) == 4
    assert list(stream) == [(number, number * number) for number in range(1, 20)]
    assert prefetch_threads() == []


def test_map_ahead_uses_its_threads_at_the_same_time():
    both = threading.Barrier(2, timeout=60)
    assert dict(map_ahead(lambda _: both.wait() >= 0, range(2), threads=2)) == {0: True, 1: True}


@pytest.mark.parametrize("threads", [1, 3])
def test_map_ahead_raises_at_the_position_of_the_item(threads):
    stream = map_ahead(lambda number: 1 // (2 - number), range(9), threads)
    assert [next(stream), next(stream)] == [(0, 0), (1, 1)]
    with pytest.raises(ZeroDivisionError):
        next(stream)
    assert prefetch_threads() == []


def test_closing_map_ahead_ends_its_threads():
    stream = map_ahead(str, iter(int, 1), threads=2)  # endless
    assert next(stream) == (0, "0") and prefetch_threads()
    stream.close()
    assert prefetch_threads() == []


def test_the_thread_has_the_context_of_the_caller():
    name = ContextVar("name", default="none")
    name.set("of the caller")
    assert list(prefetch(name.get() for _ in range(3))) == ["of the caller"] * 3
