"""How much memory the run holds now: what CUDA has allocated, else the process's resident set."""

from __future__ import annotations

import os
import sys

__all__ = ["memory_in_use"]


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
