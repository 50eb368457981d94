"""The largest amount of memory held at once since a moment: CUDA's allocations, else resident set.

Linux keeps the peak of a process (VmHWM) and can be told to start anew, so that each job of a
sweep has its own.
"""

from __future__ import annotations

import contextlib
import sys

import torch

__all__ = ["PeakMemory"]


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
