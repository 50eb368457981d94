from __future__ import annotations

import numpy as np

from bertft.runs.exhibits import Grid, Share, Table, clipped, printable
from bertft.tasks.shared.exhibits import SHOWN, class_scores, confusions, rows_to_look_at


def test_a_matrix_is_shaded_by_line():
    grid = confusions(np.array([[3, 1], [0, 0]]), ["a", "b"])
    assert isinstance(grid, Grid)
    assert grid.values.tolist() == [[3, 1], [0, 0]]
    assert grid.shade.tolist() == [[0.75, 0.25], [0, 0]]


def test_of_many_classes_the_pairs_most_confused():
    counts = 5 * np.eye(30, dtype=np.int64)
    counts[2, 7], counts[4, 1] = 3, 15
    table = confusions(counts, [f"c{n}" for n in range(30)])
    assert isinstance(table, Table)
    assert table.rows == [("c4", "c1", 15, Share(0.75)), ("c2", "c7", 3, Share(0.375))]


def test_scores_by_class():
    table = class_scores(np.array([2, 0]), np.array([4, 0]), np.array([2, 1]), ["a", "b"])
    assert table.rows == [("a", 1.0, 0.5, 2 / 3, 4), ("b", 0.0, 0.0, 0.0, 0)]


def test_rows_to_look_at():
    worst = np.array([0.1, -np.inf, 0.9])
    tables = list(rows_to_look_at(("n",), lambda n: [n], (worst, ""), (np.arange(20.0), "")))
    assert [each.name for each in tables] == ["worst", "uncertain"]
    assert tables[0].rows == [[2], [0]]
    assert tables[1].rows == [[19 - n] for n in range(SHOWN)]
    none = np.full(3, -np.inf)
    assert list(rows_to_look_at(("n",), lambda n: [n], (none, ""), None)) == []


def test_what_no_page_may_hold():
    assert printable("a\x00\x1b\ud800b\n中") == "a���b\n中"
    assert clipped("  one \n two ") == "one two"
    assert clipped("x" * 400, 10) == "xxxxxxxxx…"
