"""One process at a time trains in a run folder: the folder itself is locked, and no file is left.

The lock is the kernel's (flock) and goes with the process, however that ends. Where a file system
has none (some network ones, Windows), nobody is kept out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bertft.errors import UsageError
from bertft.runs.atomic import convert_write_errors

try:
    import fcntl
except ImportError:  # pragma: no cover
    fcntl = None  # type: ignore[assignment]

__all__ = ["exclusive_lock"]


@contextmanager
def exclusive_lock(folder: Path) -> Iterator[None]:
    """Hold ``folder``, which is made if it is not there. UsageError where another process does."""
    if fcntl is None or (folder.exists() and not folder.is_dir()):  # which others tell
        yield
        return
    with convert_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                "another process is training in it", where=str(folder),
                hint="Wait for it to end, or give another hydra.run.dir",
            ) from None  # fmt: skip
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(handle)
