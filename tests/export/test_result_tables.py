"""Tables of results, as values and as text."""

from __future__ import annotations

import pytest

from bertft.export.markdown import item_to_markdown
from bertft.export.result_tables import (
    calibration_table,
    format_cell,
    group_table,
    metrics_table,
    parameter_table,
)
from bertft.tasks.report_items import ByteCount, Percent


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (float("nan"), "–"),
        ("a|b", "a|b"),
        (12_345, "12,345"),
        (0.91234, "0.9123"),
        (ByteCount(1_234_567), "1.2 MB"),
        (Percent(0.5), "50.0%"),
        (Percent(0.0052), "0.52%"),
        (Percent(0.000014), "0.0014%"),
        (Percent(0.0), "0.0%"),
    ],
)
def test_the_text_of_a_cell(value, text):
    assert format_cell(value) == text


def test_the_selection_metric_comes_first_and_is_marked():
    table = metrics_table({"validation": {"loss": 0.5, "f1": 0.75}, "test": None}, "f1")
    assert table.head == ("metric", "validation")
    assert table.rows == [["f1", 0.75], ["loss", 0.5]] and table.strong == (0,)
    assert metrics_table({"validation": {"loss": 0.5}}, "f1").strong == ()
    assert metrics_table({"validation": {}, "test": None}, "f1") is None


def test_groups_are_apart_from_the_metrics_of_all_rows():
    metrics = {"f1": 0.5, "a|b/f1": 0.25, "a|b/support": 12}
    assert metrics_table({"test": metrics}, "f1").rows == [["f1", 0.5]]
    table = group_table(metrics, "test")
    assert table.head == ("test", "f1", "support") and table.rows == [["a|b", 0.25, 12]]
    assert item_to_markdown(table).splitlines()[-1] == "| a\\|b | 0.2500 | 12 |"
    assert group_table({"f1": 0.5}, "test") is None


def test_the_head_is_counted_once():
    """It is a component too, but has a row of its own."""
    counts = {"trainable": 10, "kept": 10, "exported": 10}
    table = parameter_table({"base": 90, "head": 10, "parts": {"head": counts}})
    assert [row[:2] for row in table.rows] == [
        ["head and new modules", 10],
        ["total", 10],
        ["full fine-tuning", 100],
    ]


def test_calibration_without_a_fitted_temperature():
    """No temperature fits some models; the table then shows that nothing changed."""
    change = {"before": 0.5, "after": 0.5}
    table = calibration_table({"temperature": None, "ece": change, "loss": change, "bins": 15})
    assert table.rows == [["expected calibration error", 0.5, 0.5], ["loss", 0.5, 0.5]]
    assert table.note == "The calibration error uses 15 bins."


def test_intervals_have_a_column_per_split():
    table = metrics_table(
        {"validation": {"f1": 0.75, "loss": 0.5}, "test": {"f1": 0.5, "loss": 1.0}},
        "f1",
        intervals={"validation": {"f1": (0.7, 0.8)}},
    )
    assert table.head == ("metric", "validation", "95% interval", "test")
    assert table.rows == [["f1", 0.75, "0.7000–0.8000", 0.5], ["loss", 0.5, "–", 1.0]]
