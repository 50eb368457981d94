"""Rows that were chosen of a table say what a copy of them would say, and are none."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from bertft.data.rows import BadRows, Rows


def table(count, pieces=1):
    made = pa.table(
        {
            "text": pa.array([f"text {folder % 7}" for folder in range(count)], pa.large_string()),
            "label": pa.array(
                [["x"] * (work_dir % 3) for work_dir in range(count)], pa.list_(pa.string())
            ),
            "line": pa.array(range(10, 10 + count), pa.int64()),
        }
    )
    size = -(-count // pieces)
    return pa.concat_tables([made.slice(start, size) for start in range(0, count, size)])


@pytest.mark.parametrize("pieces", [1, 4])
@pytest.mark.parametrize("seed", range(5))
def test_chosen_rows_are_those_of_a_copy(seed, pieces, monkeypatch):
    monkeypatch.setattr("bertft.data.rows._CHUNK_ROWS", 8)
    generator = np.random.default_rng(seed)
    whole = table(50, pieces)
    first = generator.random(50) < 0.7
    second = generator.random(first.sum()) < 0.5
    chosen = (
        Rows(whole, BadRows("a.csv", counts=Counter({"empty text": 2})))
        .select(first)
        .select(second)
    )
    copied = whole.filter(pa.array(first)).filter(pa.array(second))
    expected = Rows(copied, BadRows("a.csv"))

    assert len(chosen) == copied.num_rows and chosen.table is whole
    assert chosen.column("label") == copied.column("label").to_pylist()
    assert chosen.arrow_column("text").to_pylist() == copied.column("text").to_pylist()
    assert chosen.fingerprint == expected.fingerprint != Rows(whole, BadRows("a.csv")).fingerprint
    for row, line in enumerate(copied.column("line").to_pylist()):
        assert chosen.location(row) == f"a.csv:{line}"
        assert chosen.value("text", row) == copied.column("text")[row].as_py()
    for size in (1, 7, 1000):
        actual = [row for chunk in chosen.iter_chunks(size) for row in chunk.to_pylist()]
        assert actual == copied.to_pylist()
        assert max(piece.num_rows for piece in chosen.iter_chunks(size)) <= size
    assert (
        chosen.slice(3, 4, ["line"]).to_pydict() == copied.select(["line"]).slice(3, 4).to_pydict()
    )
    assert chosen.slice(len(chosen), 4).num_rows == 0


def test_a_small_selection_does_not_keep_the_table():
    rows = Rows(table(20_000), BadRows("a.csv"))
    few = rows.select(np.arange(len(rows)) % 100 == 0)
    assert few.row_indices is None and few.column("line") == list(range(10, 20_010, 100))
    assert few.table.nbytes < rows.table.nbytes / 50


def test_none_chosen():
    none = Rows(table(5), BadRows("a.csv")).select(np.zeros(5, bool))
    assert len(none) == 0 and none.column("text") == [] and list(none.iter_chunks(3)) == []


def test_choosing_copies_no_text_and_counts_apart():
    rows = Rows(table(20_000), BadRows("a.csv", counts=Counter({"empty text": 2})))
    before = pa.total_allocated_bytes()
    remaining = rows.select(np.arange(len(rows)) % 10 > 0)
    assert pa.total_allocated_bytes() == before
    assert remaining.row_indices.nbytes == 4 * len(remaining)
    remaining.bad.counts["unknown label"] += 1
    assert rows.bad.counts == {"empty text": 2}
