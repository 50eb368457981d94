from __future__ import annotations

import io
import re

import pytest
from rich.cells import cell_len
from rich.console import Console

from bertft.report.terminal_table import FittedTable, move_constant_columns
from bertft.tasks.report_items import TableItem

HEAD = ["name", "accuracy", "difference", "p", "runs", "parameters", "peak memory"]
ROWS = [
    ["svd_lora_prefix r8 minilm", "0.9123 ± 0.0041", "best", "–", "3", "1,234,567", "1.2 GB"],
    ["lora r2", "0.9012 ± 0.0102", "-0.0111 [-0.0300, +0.0050]", "0.123", "3", "12,345", "1.1 GB"],
]
KINDS = ["word"] + ["number"] * 6
DROPPABLE = ("peak memory", "runs")


def rendered(item, width, droppable=()):
    console = Console(file=io.StringIO(), width=width)
    console.print(FittedTable(item, droppable))
    text = console.file.getvalue()
    assert max(map(cell_len, text.splitlines())) <= width
    return text


def cell_lines(text):
    """The pieces of text in all cells, as they are on the lines."""
    return {
        piece.strip()
        for line in text.splitlines()
        for piece in re.split("[│┃]", line)
        if piece.strip()
    }


def table(rows=ROWS, head=HEAD, kinds=KINDS, **more):
    return TableItem("t", "Results", head=head, rows=rows, kinds=kinds, **more)


def test_a_wide_terminal_shows_everything_on_one_line():
    text = rendered(table(), 140, DROPPABLE)
    assert "Not shown" not in text
    for row in ROWS:
        assert set(row) - {"–"} <= cell_lines(text)


@pytest.mark.parametrize("width", [80, 100, 120])
def test_no_number_and_no_word_is_broken(width):
    text = rendered(table(), width, DROPPABLE)
    words = {word for piece in cell_lines(text) for word in piece.split()}
    hidden = [name for name in DROPPABLE if f"{name}" in text.partition("Not shown")[2]]
    for row in ROWS:
        for name, cell in zip(HEAD, row, strict=True):
            assert name in hidden or set(cell.split()) <= words, (name, cell)


def test_columns_that_do_not_fit_are_named_below():
    text = rendered(table(), 80, DROPPABLE)
    assert "Not shown at this width: runs, peak memory." in text
    assert "1.2 GB" not in text and "1,234,567" in text


def test_long_texts_wrap_between_words():
    text = "a sentence with several words that goes on and on until it needs a second line"
    item = table([["row 1", text, 0.5]], ["row", "text", "probability"], ())
    shown = rendered(item, 50)
    pieces = cell_lines(shown)
    assert "0.5000" in pieces
    assert set(text.split()) <= {word for piece in pieces for word in piece.split()}


def test_a_word_longer_than_the_terminal_is_still_complete():
    path = "/a/" + "b" * 100
    shown = rendered(table([[path, "1"]], ["folder", "runs"], ("word", "number")), 40)
    assert shown.count("b") == 100


def test_names_that_must_be_broken_are_broken_after_a_separator():
    names = ["method.head_learning_rate", "trainer.evaluate_every", "short"]
    item = table([[name, "1"] for name in names], ["setting", "value"], ("word", "number"))
    pieces = cell_lines(rendered(item, 24))
    assert {"method.head_", "learning_", "trainer.", "evaluate_", "every", "short"} <= pieces


def test_columns_without_information_move_to_the_note():
    rows = [["a", "3", "–", 0.5], ["b", "3", "–", 0.25]]
    item = table(
        rows, ["name", "runs", "memory", "f1"], ("word", "number", "number", "number"), note="N."
    )
    moved = move_constant_columns(item, ("runs", "memory", "f1"))
    assert (moved.head, moved.rows) == (["name", "f1"], [["a", 0.5], ["b", 0.25]])
    assert moved.note == "N. Equal in all rows: runs 3." and moved.kinds == ["word", "number"]
    assert move_constant_columns(item, ()) is item


def test_one_row_keeps_its_values():
    item = table([["a", "3", "–"]], ["name", "runs", "memory"], ())
    assert move_constant_columns(item, ("runs", "memory")).head == ["name", "runs"]
