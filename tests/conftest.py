"""The whole suite runs in a process a core, each on one thread; what is named runs as it is."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

# Two processes that each want every core spoil each other's time. Before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

sys.path.append(str(Path(__file__).parent))


@pytest.fixture(autouse=True, scope="session")
def _pretended_cpu() -> None:
    """No test depends on what this machine multiplies well."""
    from pretended_cpu import pretend  # torch comes with it

    pretend()


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """For ``-n auto``; 0: in this process."""
    if config.args_source is pytest.Config.ArgsSource.ARGS:
        return 0
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# They take the longest, a file at a time; a short one that comes last leaves no core idle.
_FIRST = ("end_to_end", "notebooks", "cli", "training")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In each of several processes: the files of whole runs before all others."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: not set(_FIRST) & set(item.path.parts))


@pytest.fixture(params=["in memory", "cached"])
def read_both_ways(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path_factory
) -> None:
    """The test runs twice: files are read as small ones, and as large ones from the row cache."""
    if request.param == "in memory":
        return
    from bertft.data import data_sources, splits

    monkeypatch.setenv("BERTFT_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(data_sources, "MIN_CACHED_BYTES", 0)

    def read_twice(source, *args):
        if source.file_set is not None:
            data_sources.read_rows(source, *args)
        return data_sources.read_rows(source, *args)

    monkeypatch.setattr(splits, "read_rows", read_twice)
