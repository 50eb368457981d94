"""Current and peak memory: CUDA allocations on a GPU, otherwise the resident set size.

Linux records the peak of a process (VmHWM). It is reset at the start, so that each job of a sweep
has its own peak.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys

import torch

__all__ = [
    "PeakMemory",
    "memory_in_use",
    "return_free_memory",
]


def memory_in_use() -> int | None:
    """Memory in bytes, or None if unknown. Does not initialize CUDA."""
    if torch.cuda.is_initialized():
        allocated = int(torch.cuda.memory_allocated())
        if allocated:  # 0: other code initialized CUDA, and the run is on the CPU
            return allocated
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            pages = int(file.read().split()[1])
    except OSError:
        return _peak_resident_bytes()
    return pages * os.sysconf("SC_PAGE_SIZE")


def _peak_resident_bytes() -> int | None:
    """The peak of the resident set size, for systems without /proc."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS: bytes, others: KiB


class PeakMemory:
    """``with PeakMemory() as memory:`` resets the peaks; ``memory.peak(device)`` reads one."""

    def __enter__(self) -> PeakMemory:
        with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # resets VmHWM; see proc(5)
        if torch.cuda.is_initialized():
            torch.cuda.reset_peak_memory_stats()
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing."""

    def peak(self, device: torch.device) -> int | None:
        """Peak memory on ``device`` in bytes, or None if unknown."""
        if device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(device))
        with contextlib.suppress(OSError), open("/proc/self/status", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
        return _peak_resident_bytes()


def return_free_memory() -> None:
    """Return the allocator's free memory to the system, where it is glibc's.

    Activations of many sizes fragment its heap: prediction of 12,000 rows of a few words grew by
    250 MB without this call after each block of rows.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
