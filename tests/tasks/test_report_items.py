from __future__ import annotations

import numpy as np

from bertft.tasks.report_items import HeatMap, Percent, TableItem, clip_text, replace_unprintable
from bertft.tasks.shared.report import (
    MAX_EXAMPLES,
    class_score_table,
    confusion_item,
    example_tables,
)


def test_a_matrix_is_shaded_by_line():
    grid = confusion_item(np.array([[3, 1], [0, 0]]), ["a", "b"])
    assert isinstance(grid, HeatMap)
    assert grid.values.tolist() == [[3, 1], [0, 0]]
    assert grid.intensity.tolist() == [[0.75, 0.25], [0, 0]]


def test_of_many_classes_the_pairs_most_confused():
    counts = 5 * np.eye(30, dtype=np.int64)
    counts[2, 7], counts[4, 1] = 3, 15
    table = confusion_item(counts, [f"c{n}" for n in range(30)])
    assert isinstance(table, TableItem)
    assert table.rows == [("c4", "c1", 15, Percent(0.75)), ("c2", "c7", 3, Percent(0.375))]


def test_scores_by_class():
    table = class_score_table(np.array([2, 0]), np.array([4, 0]), np.array([2, 1]), ["a", "b"])
    assert table.rows == [("a", 1.0, 0.5, 2 / 3, 4), ("b", 0.0, 0.0, 0.0, 0)]


def test_rows_to_look_at():
    worst = np.array([0.1, -np.inf, 0.9])
    tables = list(example_tables(("n",), lambda n: [n], (worst, ""), (np.arange(20.0), "")))
    assert [table.name for table in tables] == ["worst", "uncertain"]
    assert tables[0].rows == [[2], [0]]
    assert tables[1].rows == [[19 - n] for n in range(MAX_EXAMPLES)]
    none = np.full(3, -np.inf)
    assert list(example_tables(("n",), lambda n: [n], (none, ""), None)) == []


def test_unprintable_characters_are_replaced():
    assert replace_unprintable("a\x00\x1b\ud800b\n中") == "a���b\n中"
    assert clip_text("  one \n two ") == "one two"
    assert clip_text("x" * 400, 10) == "xxxxxxxxx…"
