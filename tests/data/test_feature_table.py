from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from bertft.data.features import FeatureTable, RaggedColumn, make_record_batch


def features(count: int, first: int, generator: np.random.Generator) -> dict[str, object]:
    sizes = generator.integers(0, 9, count)
    ids = [generator.integers(0, 30_000, size).tolist() for size in sizes]
    return {
        "input_ids": ids,
        "token_type_ids": [[1] * len(row) for row in ids],
        "row": np.arange(first, first + count),
        "labels": [float(number) / 2 for number in range(count)],
        "several": generator.random((count, 3)).astype(np.float32),
        "one": np.arange(count, dtype=np.int8)[:, None],
        "spans": RaggedColumn(np.arange(2 * count, dtype=np.int64), np.full(count, 2)),
    }


def table(chunks: list[dict[str, object]]) -> FeatureTable:
    sink, schema, writer = pa.BufferOutputStream(), None, None
    for chunk in chunks:
        batch = make_record_batch(chunk, schema)
        schema = batch.schema
        writer = writer or pa.ipc.new_file(sink, schema)
        writer.write_batch(batch)
    writer.close()
    return FeatureTable(sink.getvalue())


@pytest.fixture
def chunks() -> list[dict[str, object]]:
    generator = np.random.default_rng(0)
    return [features(count, first, generator) for count, first in ((40, 0), (1, 40), (33, 41))]


def naive(chunks: list[dict[str, object]], name: str, index: int) -> np.ndarray:
    for chunk in chunks:
        if index < len(chunk["row"]):
            if isinstance(chunk[name], RaggedColumn):
                return chunk[name].values[2 * index : 2 * index + 2]
            return np.asarray(chunk[name][index])
        index -= len(chunk["row"])
    raise AssertionError


def test_gather_equals_reading_row_by_row(chunks):
    mapped = table(chunks)
    indices = np.random.default_rng(1).integers(0, 74, 200)  # across batches, with repeats
    assert len(mapped) == 74
    for name in ("input_ids", "token_type_ids", "spans"):
        rows = [naive(chunks, name, index) for index in indices]
        np.testing.assert_array_equal(mapped.gather(name, indices), np.concatenate(rows))
        np.testing.assert_array_equal(mapped.sizes(name, indices), [len(row) for row in rows])
    for name in ("row", "labels", "several", "one"):
        expected = np.stack([naive(chunks, name, index) for index in indices])
        np.testing.assert_array_equal(mapped.gather(name, indices), expected)


def test_whole_columns_equal_gathering_every_feature(chunks):
    mapped = table(chunks)
    every = np.arange(len(mapped))
    for name in mapped.columns:
        whole, gathered = mapped.read_column(name), mapped.gather(name, every)
        np.testing.assert_array_equal(whole, gathered)
        assert whole.dtype == gathered.dtype and whole.shape == gathered.shape
    np.testing.assert_array_equal(mapped.lengths, mapped.sizes("input_ids", every))
    assert mapped.lengths.dtype == np.int32


def test_types_are_those_that_models_use(chunks):
    mapped = table(chunks)
    first = np.array([0, 1, 2])
    types = {name: mapped.gather(name, first).dtype.name for name in mapped.columns}
    assert types == {
        "input_ids": "int32",
        "token_type_ids": "int8",
        "row": "int64",
        "labels": "float32",
        "several": "float32",
        "one": "int8",
        "spans": "int64",
    }
    assert mapped.gather("one", first).shape == (3, 1)
    assert mapped.lengths.dtype == np.int32
    assert mapped.lengths.sum() == len(mapped.gather("input_ids", np.arange(74)))


def test_gathering_no_index_returns_an_empty_array(chunks):
    mapped = table(chunks)
    assert mapped.gather("input_ids", np.array([], dtype=np.int64)).shape == (0,)
    assert mapped.gather("several", np.array([], dtype=np.int64)).shape == (0, 3)


@pytest.mark.parametrize("index", [-1, 74])
def test_an_index_out_of_range_is_an_error(chunks, index):
    with pytest.raises(IndexError, match="0 to 73"):
        table(chunks).gather("row", np.array([index]))


def test_a_chunk_with_other_columns_is_rejected(chunks):
    del chunks[1]["several"]
    with pytest.raises(ValueError, match="several"):
        table(chunks)


def test_bytes_of_another_format_are_rejected():
    with pytest.raises(pa.ArrowInvalid):
        FeatureTable(pa.py_buffer(b"ARROW1\0\0 but not really"))
