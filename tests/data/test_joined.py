"""Labelled and unlabelled features as one table, and batches that know which are which."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch

from bertft.data.batch import collate
from bertft.data.joined import JoinedTable
from bertft.data.logits import StoredLogits, find_logits, keep_logits
from bertft.data.table import FeatureTable, record_batch


def table(columns) -> FeatureTable:
    batch = record_batch(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return FeatureTable(sink.getvalue())


@pytest.fixture
def joined() -> JoinedTable:
    first = {"row": [0, 1], "input_ids": [[5, 6], [7, 8, 9]], "labels": [1, 2]}
    second = {"row": [0, 1, 2], "input_ids": [[10], [11, 12], [13, 14, 15]]}
    return JoinedTable(table(first), table(second), count=2)


def test_columns_of_both(joined):
    assert len(joined) == 5 and joined.lengths.tolist() == [2, 3, 1, 2, 3]
    order = np.array([3, 1, 4, 0])
    assert joined.gather("input_ids", order).tolist() == [11, 12, 7, 8, 9, 13, 14, 15, 5, 6]
    assert joined.gather("row", order).tolist() == [3, 1, 4, 0]
    assert joined.gather("labels", np.array([1, 0])).tolist() == [2, 1]
    for name in ("row", "input_ids"):
        assert joined.whole(name).tolist() == joined.gather(name, np.arange(5)).tolist()


def test_a_batch_has_labels_of_those_that_have_them(joined):
    batch = collate(joined, np.array([3, 1, 4, 0]), ("labels",))
    assert batch.labelled.tolist() == [False, True, False, True]
    assert batch.labels["labels"].tolist() == [2, 1]
    own = batch.answered()
    assert own.input_ids.tolist() == [7, 8, 9, 5, 6] and own.lengths.tolist() == [3, 2]
    assert own.index.tolist() == [1, 0] and own.labelled is None
    assert batch.places("sequence").tolist() == [1, 3]
    assert torch.equal(batch.input_ids[batch.places("token")], own.input_ids)
    whole = collate(joined.first, np.array([0]), ("labels",))
    assert whole.labelled is None and whole.answered() is whole


@pytest.mark.parametrize("lengths", [None, np.array([2, 1, 3])])
def test_logits_are_kept_and_found_by_feature(tmp_path, lengths):
    values = np.arange(12, dtype=np.float32).reshape(-1, 2)
    values = values if lengths is not None else values[:3]
    kept = keep_logits(tmp_path, "key", values, lengths, {"seconds": 1.5})
    found = find_logits(tmp_path, "key", lengths)
    memory = StoredLogits(values, lengths, {})
    wanted = values[[2, 0]] if lengths is None else values[[3, 4, 5, 0, 1]]
    for each in (kept, found, memory):
        np.testing.assert_array_equal(each.gather(np.array([2, 0])), wanted)
        np.testing.assert_array_equal(each.whole(), values)
    assert found.facts == {"seconds": 1.5}
    assert find_logits(tmp_path, "other", lengths) is None
    [file] = (tmp_path / "teacher").iterdir()
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert find_logits(tmp_path, "key", lengths) is None  # damaged, and removed
    assert list((tmp_path / "teacher").iterdir()) == []
