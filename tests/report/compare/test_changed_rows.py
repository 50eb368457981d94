"""Rows with a different prediction, learning curves, and ties in the words of the page."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from bertft.report.compare.bootstrap import Difference
from bertft.report.compare.changed_rows import MAX_CHANGED, changed_row_tables
from bertft.report.compare.comparison import ComparedRow, Comparison
from bertft.report.compare.curves import learning_curves
from bertft.report.compare.page import render_comparison
from bertft.report.compare.row_statistics import RowStatistics
from bertft.report.compare.table import DisplayedComparison, comparison_cells
from bertft.report.result_rows import JobResult, ResultRow
from bertft.tasks.row_answers import RowAnswers

CLASSES = ["neg", "pos"]


def task(**more):
    facts = {"answer_noun": "class", "answer_score": "", "lower_answer_score_is_better": False}
    return SimpleNamespace(**facts | more)


def row_statistics(answers, **facts):
    return RowStatistics(np.arange(4) * 2, np.zeros((4, 1)), task(**facts), answers=answers)


def statistics(truth, answers):
    names = ([CLASSES[number] for number in numbers] for numbers in (truth, answers))
    row_answers = RowAnswers(*names, is_right=np.asarray(truth) == np.asarray(answers))
    terms = np.zeros((len(truth), 1))
    return RowStatistics(np.arange(len(truth)) * 2, terms, task(), answers=row_answers)


def row(name, value, folder, difference=None, best=False, seeds=1):
    metrics = {"best": {"metric": "accuracy", "value": value, "step": 10}}
    jobs = tuple(
        JobResult(
            folder / f"{name}-{seed}", {"seed": str(seed), "method.name": name}, None, metrics
        )
        for seed in range(seeds)
    )
    result = ResultRow(
        {"method.name": name}, "accuracy", value, None, seeds, 0, 9, 100, 1.0, None, None,
        best=best, jobs=jobs,
    )  # fmt: skip
    return ComparedRow(name, result, 9, "rows", None if best else "lora", difference)


def comparison(folder, answers, low=-0.2, high=-0.1, **more):
    rows = [
        row("lora", 0.9, folder, best=True, **more),
        row("head", 0.8, folder, Difference(-0.1, low, high, 0.01), **more),
    ]
    loaded = {name: [value] for name, value in answers.items()}
    return Comparison("accuracy", False, rows, 100, [], loaded)


def read_row(_):
    return lambda number: (f"a.csv:{number}", f"text {number}")


def test_rows_that_changed_in_both_directions(tmp_path):
    truth = np.array([0, 1, 0, 1])
    answers = {
        "lora": statistics(truth, [0, 1, 1, 1]),
        "head": statistics(truth, [0, 0, 0, 1]),
    }
    (table,) = changed_row_tables(comparison(tmp_path, answers), read_row)
    assert table.head == ("row", "text", "change", "true class", "lora", "head")
    assert table.rows == [
        ["a.csv:2", "text 2", "correct → wrong", "pos", "pos", "neg"],
        ["a.csv:4", "text 4", "wrong → correct", "neg", "pos", "neg"],
    ]
    assert "only lora predicts correctly: 1." in table.note
    assert "only head predicts correctly: 1." in table.note


@pytest.mark.parametrize(
    ("lost", "won", "expected"), [(80, 80, (25, 25)), (80, 5, (45, 5)), (3, 80, (3, 47))]
)
def test_at_most_fifty_rows_with_both_directions(tmp_path, lost, won, expected):
    truth = np.zeros(lost + won + 10, int)
    one, two = truth.copy(), truth.copy()
    two[:lost], one[lost : lost + won] = 1, 1
    answers = {"lora": statistics(truth, one), "head": statistics(truth, two)}
    (table,) = changed_row_tables(comparison(tmp_path, answers), read_row)
    changes = [cells[2] for cells in table.rows]
    counts = tuple(changes.count(change) for change in ("correct → wrong", "wrong → correct"))
    assert counts == expected and len(changes) == MAX_CHANGED
    assert table.note.endswith(" The table has 50 rows.")


def test_graded_answers_show_their_scores_and_list_wrong_ones_that_changed(tmp_path):
    truth = ["Paris", "Rome", "the old town", "Bonn"]
    facts = {"answer_noun": "answer", "answer_score": "F1"}
    lora = RowAnswers(
        truth, ["Paris", "Oslo", "town", "x"], np.array([1, 0, 0, 0]) > 0,
        np.array([1, 0, 0.5, 0]),
    )  # fmt: skip
    head = RowAnswers(
        truth, ["in Paris", "Rome", "old town", "y"], np.array([0, 1, 0, 0]) > 0,
        np.array([2 / 3, 1, 0.8, 0]),
    )  # fmt: skip
    answers = {"lora": row_statistics(lora, **facts), "head": row_statistics(head, **facts)}
    (table,) = changed_row_tables(comparison(tmp_path, answers), read_row)
    assert table.head == ("row", "text", "change", "true answer", "lora", "head", "F1")
    assert [cells[2:] for cells in table.rows] == [
        ["correct → wrong", "Paris", "Paris", "in Paris", "1 → 0.6667"],
        ["wrong → correct", "Rome", "Oslo", "Rome", "0 → 1"],
        ["better", "the old town", "town", "old town", "0.5 → 0.8"],
        ["wrong → wrong", "Bonn", "x", "y", "0 → 0"],
    ]
    assert table.note.endswith("Rows with two different wrong predictions: 2.")


def test_numbers_are_listed_by_the_difference_of_their_errors(tmp_path):
    facts = {
        "answer_noun": "value", "answer_score": "absolute error",
        "lower_answer_score_is_better": True,
    }  # fmt: skip
    truth = ["1", "2", "3", "4"]
    lora = RowAnswers(truth, ["1", "2", "3.5", "4.5"], None, np.array([0, 0, 0.5, 0.5]))
    head = RowAnswers(truth, ["1.2", "2", "3", "6"], None, np.array([0.2, 0, 0, 2]))
    answers = {"lora": row_statistics(lora, **facts), "head": row_statistics(head, **facts)}
    (table,) = changed_row_tables(comparison(tmp_path, answers), read_row)
    assert table.head[3:] == ("true value", "lora", "head", "absolute error")
    assert [(cells[0], cells[2], cells[-1]) for cells in table.rows] == [
        ("a.csv:6", "worse", "0.5 → 2"),
        ("a.csv:4", "better", "0.5 → 0"),
        ("a.csv:0", "worse", "0 → 0.2"),
    ]
    assert table.note == (
        "Absolute error of head is better than that of lora for 1 rows and worse for 2. Largest"
        " differences first."
    )


def test_tasks_without_answers_have_no_table(tmp_path):
    answers = {name: row_statistics(None) for name in ("lora", "head")}
    assert list(changed_row_tables(comparison(tmp_path, answers), read_row)) == []


def write_log(folder, values):
    folder.mkdir()
    lines = [
        {"event": "evaluated", "step": 10 * n, "metrics": {"accuracy": value}}
        for n, value in enumerate(values, 1)
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text)
    (folder / "timings.jsonl").write_text("")


def test_the_curves_of_all_runs_are_in_one_plot(tmp_path):
    for name in ("lora-0", "lora-1", "head-0", "head-1"):
        write_log(tmp_path / name, [0.5, 0.75])
    for name, content in (("head-1", "damaged"), ("head-0", "[1]\n")):
        (tmp_path / name / "metrics.jsonl").write_text(content)
    (chart,) = learning_curves(comparison(tmp_path, {}, seeds=2))
    assert list(chart.series) == ["lora s0", "lora s1"]
    assert chart.series["lora s1"] == ([10, 20], [0.5, 0.75])


def test_a_tie_is_called_a_tie(tmp_path):
    tie = comparison(tmp_path, {}, low=-0.2, high=0.1)
    assert comparison_cells(tie)[1][1][2] == "tie -0.1000 [-0.2000, +0.1000]"
    assert "<h1>lora and head tie: accuracy 0.9000 and 0.8000.</h1>" in render_comparison(tie)
    clear = comparison(tmp_path, {})
    assert comparison_cells(clear)[1][1][2] == "-0.1000 [-0.2000, -0.1000]"
    assert "<h1>lora is the best: accuracy 0.9000.</h1>" in render_comparison(clear)


def test_jupyter_shows_the_table(tmp_path):
    tie = comparison(tmp_path, {}, low=-0.2, high=0.1)
    html = DisplayedComparison(**vars(tie))._repr_html_()
    assert html.startswith("<table>") and "<td>tie -0.1000" in html and "<script" not in html
