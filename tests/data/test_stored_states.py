"""StoredStates: vectors of features in the order in which they were computed."""

from __future__ import annotations

import multiprocessing
import time

import numpy as np
import pytest
import torch

from bertft.data.stored_states import StateOrder, computing_states, load_states, store_states

FEATURES = np.array([2, 0, 1])


def make(dtype, sizes):
    """Blocks in the order of ``FEATURES``, and the vectors of each feature."""
    values = torch.arange(4 * sum(sizes)).view(-1, 4).to(dtype) / 7
    pieces = values.split([sizes[feature] for feature in FEATURES])
    by_feature = dict(zip(FEATURES.tolist(), pieces, strict=True))
    return values.split([3, len(values) - 3]), by_feature


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("sizes", [(2, 1, 3), (1, 1, 3)])
def test_vectors_are_read_by_feature(tmp_path, dtype, sizes):
    blocks, by_feature = make(dtype, sizes)
    order = StateOrder(FEATURES, np.array(sizes, np.int32))
    stored = store_states(tmp_path, "key", iter(blocks), dtype, order)
    loaded = load_states(tmp_path, "key", order)
    for states in (stored, loaded):
        for wanted in ([0, 1, 2], [2, 0], [1], [1, 1, 2]):
            actual = states.gather(np.array(wanted))
            assert actual.dtype == dtype
            assert torch.equal(actual, torch.cat([by_feature[feature] for feature in wanted]))
            assert actual.data_ptr() % 64 == 0, "the bits of products can depend on it"


def test_other_and_damaged_files_are_not_read(tmp_path):
    blocks, _ = make(torch.bfloat16, (2, 1, 3))
    order = StateOrder(FEATURES, np.array((2, 1, 3), np.int32))
    store_states(tmp_path, "key", blocks, torch.bfloat16, order)
    assert load_states(tmp_path, "other", order) is None
    [file] = (tmp_path / "frozen").iterdir()
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert load_states(tmp_path, "key", order) is None
    assert list((tmp_path / "frozen").iterdir()) == []
    store_states(tmp_path, "key", blocks, torch.bfloat16, order)
    fewer = StateOrder(FEATURES, np.array((1, 1, 3), np.int32))
    assert load_states(tmp_path, "key", fewer) is None


def _compute(folder, name):
    with computing_states(folder):
        with open(folder / "log", "a", encoding="utf-8") as log:
            log.write(f"{name} begins\n")
        time.sleep(0.3)
        with open(folder / "log", "a", encoding="utf-8") as log:
            log.write(f"{name} ends\n")


def test_one_process_computes_at_a_time(tmp_path):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_compute, args=(tmp_path, name)) for name in "ab"]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    lines = (tmp_path / "log").read_text(encoding="utf-8").split()
    assert lines in (["a", "begins", "a", "ends", "b", "begins", "b", "ends"],
                     ["b", "begins", "b", "ends", "a", "begins", "a", "ends"])  # fmt: skip
