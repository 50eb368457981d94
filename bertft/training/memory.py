"""The largest amount of memory held at once since a moment: CUDA's allocations, else resident set.

Linux keeps the peak of a process (VmHWM) and can be told to start anew, so that each job of a
sweep has its own.
"""

from __future__ import annotations

import contextlib
import os
import sys

import torch

__all__ = [
    "PeakMemory",
    "memory_in_use",
]


def memory_in_use() -> int | None:
    """Bytes; None where the system does not tell. Never the first to load torch or CUDA."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        allocated = int(torch.cuda.memory_allocated())
        if allocated:  # else something else has called on CUDA, and the run is on the CPU
            return allocated
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            pages = int(file.read().split()[1])
    except OSError:
        return _peak_resident_bytes()
    return pages * os.sysconf("SC_PAGE_SIZE")


def _peak_resident_bytes() -> int | None:
    """The largest resident set so far, which is all that systems without /proc tell."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # bytes there, kB elsewhere


class PeakMemory:
    """``with PeakMemory() as memory: ...; memory.peak(device)`` → bytes, None if unknown."""

    def __enter__(self) -> PeakMemory:
        with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # forget VmHWM; see proc(5)
        # Where CUDA was not called on there is no peak yet, and a run on the CPU wants none.
        if torch.cuda.is_initialized():
            torch.cuda.reset_peak_memory_stats()
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is held."""

    def peak(self, device: torch.device) -> int | None:
        if device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(device))
        with contextlib.suppress(OSError), open("/proc/self/status", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
        try:
            import resource
        except ImportError:
            return None
        largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return largest if sys.platform == "darwin" else largest * 1024
