"""ConcatFeatureTable: labelled and unlabelled features as one table."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch

from bertft.config.data import DataConfig
from bertft.data.batch import collate
from bertft.data.features import ConcatFeatureTable, FeatureTable, make_record_batch
from bertft.tasks.classification import ClassificationTask


def table(columns) -> FeatureTable:
    batch = make_record_batch(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return FeatureTable(sink.getvalue())


@pytest.fixture
def concatenated() -> ConcatFeatureTable:
    first = {"row": [0, 1], "input_ids": [[5, 6], [7, 8, 9]], "labels": [1, 2]}
    second = {"row": [0, 1, 2], "input_ids": [[10], [11, 12], [13, 14, 15]]}
    return ConcatFeatureTable(table(first), table(second), first_row_count=2)


def test_columns_contain_the_features_of_both_tables(concatenated):
    assert len(concatenated) == 5 and concatenated.lengths.tolist() == [2, 3, 1, 2, 3]
    order = np.array([3, 1, 4, 0])
    assert concatenated.gather("input_ids", order).tolist() == [11, 12, 7, 8, 9, 13, 14, 15, 5, 6]
    assert concatenated.gather("row", order).tolist() == [3, 1, 4, 0]
    assert concatenated.gather("labels", np.array([1, 0])).tolist() == [2, 1]
    assert concatenated.read_column("labels").tolist() == [1, 2]
    for name in ("row", "input_ids"):
        assert (
            concatenated.read_column(name).tolist()
            == concatenated.gather(name, np.arange(5)).tolist()
        )


def test_a_batch_marks_the_features_that_have_labels(concatenated):
    batch = collate(concatenated, np.array([3, 1, 4, 0]), ("labels",))
    assert batch.label_mask.tolist() == [False, True, False, True]
    assert batch.labels["labels"].tolist() == [2, 1]
    labelled = batch.select_labelled()
    assert labelled.input_ids.tolist() == [7, 8, 9, 5, 6] and labelled.lengths.tolist() == [3, 2]
    assert labelled.feature_indices.tolist() == [1, 0] and labelled.label_mask is None
    assert batch.labelled_indices("sequence").tolist() == [1, 3]
    assert torch.equal(batch.input_ids[batch.labelled_indices("token")], labelled.input_ids)
    whole = collate(concatenated.first, np.array([0]), ("labels",))
    assert whole.label_mask is None and whole.select_labelled() is whole


def test_features_without_labels_have_no_loss_without_input(concatenated):
    """A run with rows without labels records this loss to detect a collapse."""
    task = ClassificationTask(DataConfig(name="t"), ["a", "b", "c"])
    losses = task.input_free_losses(concatenated)
    assert losses.terms.tolist() == [1, 1, 0, 0, 0]
    assert losses.sums.tolist() == pytest.approx([np.log(2)] * 2 + [0] * 3)
