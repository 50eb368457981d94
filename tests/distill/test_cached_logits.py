"""CachedLogits: logits of a teacher per feature, in memory or in a file of the cache."""

from __future__ import annotations

import numpy as np
import pytest

from bertft.distill.cached_logits import CachedLogits, load_cached_logits, store_logits


@pytest.mark.parametrize("lengths", [None, np.array([2, 1, 3])])
def test_cached_logits_are_read_by_feature(tmp_path, lengths):
    values = np.arange(12, dtype=np.float32).reshape(-1, 2)
    values = values if lengths is not None else values[:3]
    stored = store_logits(tmp_path, "key", values, lengths, {"seconds": 1.5})
    loaded = load_cached_logits(tmp_path, "key", lengths)
    in_memory = CachedLogits(values, lengths, {})
    expected = values[[2, 0]] if lengths is None else values[[3, 4, 5, 0, 1]]
    for logits in (stored, loaded, in_memory):
        np.testing.assert_array_equal(logits.gather(np.array([2, 0])), expected)
        np.testing.assert_array_equal(logits.read_all(), values)
    assert loaded.metadata == {"seconds": 1.5}
    assert load_cached_logits(tmp_path, "other", lengths) is None
    [file] = (tmp_path / "teacher").iterdir()
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert load_cached_logits(tmp_path, "key", lengths) is None  # damaged, and removed
    assert list((tmp_path / "teacher").iterdir()) == []
