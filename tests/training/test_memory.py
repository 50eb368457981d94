"""The peak of a stretch of work, not of the process."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bertft.training.memory import PeakMemory

CPU = torch.device("cpu")
SIZE = 150_000_000


@pytest.fixture(autouse=True)
def _can_forget():
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pytest.skip("this system cannot forget a peak")


def test_the_peak_holds_what_was_freed_since():
    with PeakMemory() as memory:
        before = memory.peak(CPU)
        block = np.ones(SIZE, np.uint8)
        del block
        assert memory.peak(CPU) - before > 0.8 * SIZE


def test_each_stretch_has_its_own():
    with PeakMemory() as memory:
        block = np.ones(SIZE, np.uint8)
        del block
        first = memory.peak(CPU)
    with PeakMemory() as memory:
        assert memory.peak(CPU) < first - 0.8 * SIZE
