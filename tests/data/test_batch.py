from __future__ import annotations

import contextlib

import numpy as np
import pyarrow as pa
import pytest
import torch

from bertft.data.batch import collate
from bertft.data.features import featurize
from bertft.data.rows import BadRows, Rows

IDS = [[5, 6], [7], [8, 9, 10]]


@pytest.fixture
def table():
    text = pa.array(["a", "b", "c"], pa.large_string())
    rows = Rows(pa.table({"text": text, "line": pa.array([1, 2, 3])}), BadRows("here"))

    def encode(columns):
        return {
            "input_ids": IDS,
            "token_type_ids": [[0, 1], [0], [0, 0, 1]],
            "row": [0, 1, 2],
            "labels": [0, 1, 0],
            "several": np.array([[0, 1], [1, 1], [0, 0]], np.float32),
            "tags": [[1, 2], [3], [4, 5, 6]],
        }

    return featurize(rows, encode, [], None)


def test_sequences_are_concatenated_in_the_requested_order(table):
    batch = collate(table, np.array([2, 0]), ["labels", "several", "tags"])
    assert batch.input_ids.tolist() == [8, 9, 10, 5, 6]
    assert batch.token_type_ids.tolist() == [0, 0, 1, 0, 1]
    assert batch.lengths.tolist() == [3, 2]
    assert batch.max_length == 3
    assert len(batch) == 2
    assert batch.feature_indices.tolist() == [2, 0]
    assert batch.labels["labels"].tolist() == [0, 0]
    assert batch.labels["several"].tolist() == [[0.0, 0.0], [0.0, 1.0]]
    assert batch.labels["tags"].tolist() == [4, 5, 6, 1, 2]


def test_integers_become_int64_and_floats_stay(table):
    batch = collate(table, np.array([1]), ["labels", "several", "tags"])
    assert batch.input_ids.dtype == batch.token_type_ids.dtype == torch.int64
    assert {name: values.dtype for name, values in batch.labels.items()} == {
        "labels": torch.int64,
        "several": torch.float32,
        "tags": torch.int64,
    }


def test_lengths_stay_on_the_cpu(table):
    batch = collate(table, np.array([0, 1]), ["labels"])
    moved = batch.to("meta")
    assert moved.input_ids.device.type == moved.labels["labels"].device.type == "meta"
    assert moved.lengths.device.type == "cpu"
    assert batch.to("cpu") is batch


def test_a_tokenizer_without_token_types_gives_none():
    rows = Rows(
        pa.table({"text": pa.array(["a"], pa.large_string()), "line": pa.array([1])}), BadRows("")
    )
    table = featurize(rows, lambda _: {"input_ids": [[1]], "row": [0]}, [], None)
    batch = collate(table, np.array([0]), ())
    assert batch.token_type_ids is None
    assert batch.to("meta").token_type_ids is None


def test_batches_are_pinned_in_the_context_of_their_gpu(table, monkeypatch):
    batch = collate(table, np.array([0, 1]), ("labels",))
    assert batch.pin_memory(torch.device("cpu")) is batch
    entered, locked = [], []

    @contextlib.contextmanager
    def device(which):
        entered.append(which)
        yield
        entered.append("left")

    def pin_memory(tensor):
        assert entered == [torch.device("cuda:1")]
        locked.append(tensor)
        return tensor.clone()

    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(torch.Tensor, "pin_memory", pin_memory)
    staged = batch.pin_memory(torch.device("cuda:1"))
    assert entered[1:] == ["left"]
    tensors = [batch.input_ids, batch.token_type_ids, batch.labels["labels"]]
    assert {id(tensor) for tensor in locked} == {
        id(tensor) for tensor in tensors if tensor is not None
    }
    assert torch.equal(staged.input_ids, batch.input_ids)
    assert staged.input_ids is not batch.input_ids and staged.lengths is batch.lengths
