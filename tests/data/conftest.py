from __future__ import annotations

import pytest

from bertft.data import cache, splits


@pytest.fixture(params=["in memory", "kept"])
def however_read(request, monkeypatch, tmp_path_factory) -> None:
    """Every file twice: read as a small one is, and as a large one that was read before."""
    if request.param == "in memory":
        return
    monkeypatch.setenv("BERTFT_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(cache, "MIN_CACHED_BYTES", 0)

    def again(origin, *args):
        if origin.path is not None:
            cache.read_rows(origin, *args)
        return cache.read_rows(origin, *args)

    monkeypatch.setattr(splits, "read_rows", again)
