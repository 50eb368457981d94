"""Real signals to a real process: the first is remembered, the second ends it."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import bertft
from bertft.training.signals import StopRequest

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
        timeout=300, cwd=Path(bertft.__file__).parents[1],
    )  # fmt: skip
    assert done.stdout == "still here\n" and done.stderr == ""
    assert done.returncode == -getattr(signal, second)


def test_handlers_are_put_back():
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    with StopRequest() as stop:
        assert all(signal.getsignal(each) != handler for each, handler in before.items())
        signal.raise_signal(signal.SIGTERM)
        assert stop.signum == signal.SIGTERM
    assert {each: signal.getsignal(each) for each in before} == before


def test_another_thread_cannot_hear_and_does_not_fail():
    heard = []

    def work():
        with StopRequest() as stop:
            heard.append(stop.signum)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert heard == [None]
