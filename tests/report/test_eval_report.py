from __future__ import annotations

import numpy as np

from bertft.report.eval_report import _for_terminal
from bertft.tasks.report_items import HeatMap, LineChart, TableItem


def matrix(classes):
    names = [f"class {number}" for number in range(classes)]
    values = np.arange(float(classes**2)).reshape(classes, classes)
    return HeatMap(
        "confusion", "Confusion matrix", rows=names, columns=names, values=values,
        row_title="true class", column_title="predicted class",
    )  # fmt: skip


def test_a_confusion_matrix_is_a_table_of_counts():
    table = _for_terminal(matrix(2))
    assert table.head == ["true class ↓ predicted class →", "class 0", "class 1"]
    assert table.rows == [["class 0", 0, 1], ["class 1", 2, 3]]
    assert _for_terminal(matrix(9)) is None, "it does not fit into a terminal"


def test_of_many_classes_the_worst_are_shown():
    rows = [(f"class {number}", 0.5, 0.5, number / 100, 3) for number in range(77)][::-1]
    item = TableItem(
        "classes", "Scores", head=("class", "precision", "recall", "F1", "rows"), rows=rows
    )
    table = _for_terminal(item)
    assert [row[0] for row in table.rows] == [f"class {number}" for number in range(20)]
    assert table.note == "The 20 of 77 classes with the lowest F1."


def test_examples_are_few_and_short():
    item = TableItem("worst", "Worst", head=("row", "text"), rows=[("a.csv:1", "word " * 100)] * 9)
    table = _for_terminal(item)
    assert len(table.rows) == 5 and max(len(row[1]) for row in table.rows) == 160


def test_curves_have_no_table():
    assert _for_terminal(LineChart("loss", "Loss", series={})) is None
