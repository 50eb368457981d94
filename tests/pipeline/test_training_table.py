"""The rows that a training table consists of."""

from __future__ import annotations

import pyarrow as pa

from bertft.data.rows import BadRows, Rows
from bertft.data.splits import Splits
from bertft.pipeline.training_table import TrainingTable


def rows(name, count):
    table = pa.table({"text": ["a"] * count, "line": list(range(1, count + 1))})
    return Rows(table, BadRows(name))


def test_a_number_is_located_in_rows_with_and_without_labels_and_in_copies():
    splits = Splits(rows("a.csv", 3), None, None, None, False, None)
    splits.unlabelled = rows("b.csv", 2)
    table = TrainingTable(None, splits, "key")
    assert [table.row_location(number) for number in (0, 2, 3, 4, 5, 9, 13)] == [
        "a.csv:1", "a.csv:3", "b.csv:1", "b.csv:2",
        "copy 1 of a.csv:1", "copy 1 of b.csv:2", "copy 2 of b.csv:1",
    ]  # fmt: skip
    splits.unlabelled = None
    assert table.row_location(4) == "copy 1 of a.csv:2"
