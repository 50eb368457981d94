"""Real signals to a real process: the first is remembered, the second ends it.

A queue's signals are heard where somebody listens, and end nothing.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import bertft
from bertft.errors import StoppedBySignal
from bertft.training.signals import SCHEDULER_SIGNALS, InterruptOnSignal, StopRequest

PROGRAM = """
import os, signal, sys
from bertft.training.signals import StopRequest
first, second = (getattr(signal, name) for name in sys.argv[1:3])
with StopRequest() as stop:
    assert stop.signum is None
    os.kill(os.getpid(), first)
    assert stop.signum == first
    print("still here", flush=True)
    os.kill(os.getpid(), second)
    print("not any more", flush=True)
"""


@pytest.mark.parametrize("first", ["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("second", ["SIGTERM", "SIGINT"])
def test_the_second_signal_ends_the_process(first, second):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, first, second], capture_output=True, text=True,
        timeout=900, cwd=Path(bertft.__file__).parents[1],
    )  # fmt: skip
    assert done.stdout == "still here\n" and done.stderr == ""
    assert done.returncode == -getattr(signal, second)


def test_handlers_are_put_back():
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGINT)}
    with StopRequest() as stop:
        assert all(signal.getsignal(signum) != handler for signum, handler in before.items())
        signal.raise_signal(signal.SIGTERM)
        assert stop.signum == signal.SIGTERM
    assert {signum: signal.getsignal(signum) for signum in before} == before


def test_another_thread_cannot_hear_and_does_not_fail():
    received = []

    def work():
        with StopRequest() as stop:
            received.append(stop.signum)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert received == [None]


@pytest.fixture
def listened():
    """SIGUSR1 and SIGUSR2 with a listener, as under submitit; the signals that it received."""
    received = []
    before = {number: signal.signal(number, lambda signum, _: received.append(signum))
              for number in SCHEDULER_SIGNALS}  # fmt: skip
    yield received
    for signum, handler in before.items():
        signal.signal(signum, handler)


def stopped_by(first, second):
    """A loop that hears the first, and then, while it saves, the second."""
    with StopRequest() as stop:
        signal.raise_signal(first)
        signum = stop.signum
        signal.raise_signal(second)
        raise StoppedBySignal(signum)


@pytest.mark.parametrize("signum", SCHEDULER_SIGNALS)
def test_a_queue_s_signal_is_recorded_as_a_request(listened, signum):
    with pytest.raises(StoppedBySignal, match=signum.name):
        stopped_by(signum, signum)
    with pytest.raises(StoppedBySignal, match=signum.name), InterruptOnSignal():
        signal.raise_signal(signum)
    assert listened == []
    signal.raise_signal(signum)
    assert listened == [signum], "its handler is there again"


def test_one_that_is_not_handled_is_passed_on(listened):
    with StopRequest():
        signal.raise_signal(SCHEDULER_SIGNALS[0])
    with pytest.raises(StoppedBySignal, match="SIGTERM"):
        stopped_by(signal.SIGTERM, SCHEDULER_SIGNALS[1])
    assert listened == list(SCHEDULER_SIGNALS)


@pytest.mark.parametrize("order", [(signal.SIGTERM, *SCHEDULER_SIGNALS), (*SCHEDULER_SIGNALS, 15)])
def test_a_queue_s_signal_counts_before_the_sigterm_that_comes_with_it(listened, order):
    with StopRequest() as stop:
        for signum in order:
            signal.raise_signal(signum)
        assert stop.signum == SCHEDULER_SIGNALS[0]


def test_where_nobody_listens_they_stay_what_they_are():
    assert all(signal.getsignal(signum) == signal.SIG_DFL for signum in SCHEDULER_SIGNALS)
    with StopRequest():
        assert all(signal.getsignal(signum) == signal.SIG_DFL for signum in SCHEDULER_SIGNALS)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("caught", [Exception, BaseException])
def test_no_handler_of_failures_hides_an_ending_signal(signum, caught):
    def work():
        try:
            signal.raise_signal(signum)
        except caught as error:  # as the report does, for a picture that cannot be drawn
            raise OSError("no picture") from error

    with pytest.raises(StoppedBySignal) as stopped, InterruptOnSignal():
        work()
    assert stopped.value.status == 128 + signum

    def go_on():
        with contextlib.suppress(OSError):
            work()

    with pytest.raises(StoppedBySignal), InterruptOnSignal():
        go_on()
