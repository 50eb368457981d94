"""The peak of a stretch of work, not of the process."""

from __future__ import annotations

import platform

import numpy as np
import pytest
import torch

from bertft.training.memory import PeakMemory, memory_in_use, return_free_memory

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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_free_memory_between_blocks_in_use_is_returned():
    """Blocks below the size that glibc maps on its own, every second one freed."""
    blocks = [torch.ones(64 * 1024 // 4) for _ in range(4000)]
    before = memory_in_use()
    del blocks[::2]
    return_free_memory()
    assert before - memory_in_use() > 0.8 * 2000 * 64 * 1024
