"""Labelled and unlabelled features as one table, and batches that know which are which."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch

from bertft.data.batch import collate
from bertft.data.cached_logits import CachedLogits, load_cached_logits, store_logits
from bertft.data.features import ConcatFeatureTable, FeatureTable, make_record_batch


def table(columns) -> FeatureTable:
    batch = make_record_batch(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return FeatureTable(sink.getvalue())


@pytest.fixture
def joined() -> ConcatFeatureTable:
    first = {"row": [0, 1], "input_ids": [[5, 6], [7, 8, 9]], "labels": [1, 2]}
    second = {"row": [0, 1, 2], "input_ids": [[10], [11, 12], [13, 14, 15]]}
    return ConcatFeatureTable(table(first), table(second), first_row_count=2)


def test_columns_of_both(joined):
    assert len(joined) == 5 and joined.lengths.tolist() == [2, 3, 1, 2, 3]
    order = np.array([3, 1, 4, 0])
    assert joined.gather("input_ids", order).tolist() == [11, 12, 7, 8, 9, 13, 14, 15, 5, 6]
    assert joined.gather("row", order).tolist() == [3, 1, 4, 0]
    assert joined.gather("labels", np.array([1, 0])).tolist() == [2, 1]
    for name in ("row", "input_ids"):
        assert joined.read_column(name).tolist() == joined.gather(name, np.arange(5)).tolist()


def test_a_batch_has_labels_of_those_that_have_them(joined):
    batch = collate(joined, np.array([3, 1, 4, 0]), ("labels",))
    assert batch.label_mask.tolist() == [False, True, False, True]
    assert batch.labels["labels"].tolist() == [2, 1]
    own = batch.select_labelled()
    assert own.input_ids.tolist() == [7, 8, 9, 5, 6] and own.lengths.tolist() == [3, 2]
    assert own.feature_indices.tolist() == [1, 0] and own.label_mask is None
    assert batch.labelled_indices("sequence").tolist() == [1, 3]
    assert torch.equal(batch.input_ids[batch.labelled_indices("token")], own.input_ids)
    whole = collate(joined.first, np.array([0]), ("labels",))
    assert whole.label_mask is None and whole.select_labelled() is whole


@pytest.mark.parametrize("lengths", [None, np.array([2, 1, 3])])
def test_logits_are_kept_and_found_by_feature(tmp_path, lengths):
    values = np.arange(12, dtype=np.float32).reshape(-1, 2)
    values = values if lengths is not None else values[:3]
    remaining = store_logits(tmp_path, "key", values, lengths, {"seconds": 1.5})
    actual = load_cached_logits(tmp_path, "key", lengths)
    memory = CachedLogits(values, lengths, {})
    wanted = values[[2, 0]] if lengths is None else values[[3, 4, 5, 0, 1]]
    for each in (remaining, actual, memory):
        np.testing.assert_array_equal(each.gather(np.array([2, 0])), wanted)
        np.testing.assert_array_equal(each.read_all(), values)
    assert actual.metadata == {"seconds": 1.5}
    assert load_cached_logits(tmp_path, "other", lengths) is None
    [file] = (tmp_path / "teacher").iterdir()
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert load_cached_logits(tmp_path, "key", lengths) is None  # damaged, and removed
    assert list((tmp_path / "teacher").iterdir()) == []
