"""Checkpoints of a few small files."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bertft.runs.checkpoints import CheckpointStore

sys.path.append(str(Path(__file__).parent))

from crash_runs import writer


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A folder where an fsync takes no time, if the system has one."""
    shared = "/dev/shm"
    with tempfile.TemporaryDirectory(dir=shared if os.access(shared, os.W_OK) else None) as name:
        yield Path(name)


@pytest.fixture
def checkpoints(in_memory) -> CheckpointStore:
    """Of a run that saved steps 10 (the best) and 20."""
    (in_memory / "run").mkdir()
    made = CheckpointStore(in_memory / "run" / "checkpoints", keep=1)
    made.save(10, writer(10), best=True)
    made.save(20, writer(20), best=False)
    return made
