"""The rows that a list drops are the listed ones, and a list for other rows is refused."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from bertft.config.data import DataConfig
from bertft.data.splits import load_all_rows, load_splits
from bertft.errors import DataError

ROWS = [(f"text {n}, so long", "ab"[n % 2]) for n in range(20)]


def write(path: Path, columns, rows) -> str:
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return str(path)


@pytest.fixture
def config(tmp_path):
    train = write(tmp_path / "a.csv", ("text", "label"), ROWS)
    return DataConfig(name="files", train=train, drop_rows=str(tmp_path / "suspects.csv"))


def suspects(config, *lines: int, columns=("line", "text", "label", "suggestion"), **changes):
    rows = [
        {"line": line, "text": ROWS[line - 2][0], "label": ROWS[line - 2][1], "suggestion": "c"}
        | changes
        for line in lines
    ]
    write(Path(config.drop_rows), columns, [[row[name] for name in columns] for row in rows])


@pytest.mark.parametrize("columns", [("line", "text", "label", "suggestion"), ("line", "text")])
def test_listed_rows_are_dropped_and_counted(config, columns):
    suspects(config, 3, 7, 3, columns=columns)
    assert load_all_rows(config).train.column("line") == [2, 4, 5, 6, *range(8, 22)]
    splits = load_splits(config)
    counts = splits.train.accounting()
    assert counts["read"] == 20 == counts["used"] + sum(counts["unused"].values())
    assert counts["unused"] == {"dropped (data.drop_rows)": 2, "held out for validation": 2}
    kept = splits.train.column("line") + splits.validation.column("line")
    assert sorted(kept) == [2, 4, 5, 6, *range(8, 22)]


def test_an_empty_list_drops_nothing(config):
    suspects(config)
    assert len(load_all_rows(config).train) == 20


def test_several_files(config, tmp_path):
    other = tmp_path / "other" / "b.csv"
    other.parent.mkdir()
    config.train = [config.train, write(other, ("text", "label"), ROWS)]
    columns = ("file", "line", "text")
    suspects(config, 3, 5, columns=columns, file=str(other))
    expected = load_all_rows(config).train.column("line")
    assert len(expected) == 38 and expected[:20] == [*range(2, 22)]
    suspects(config, 3, 5, columns=columns, file="moved/b.csv")
    assert load_all_rows(config).train.column("line") == expected
    suspects(config, 3, columns=columns, file="c.csv")
    with pytest.raises(DataError, match=r"suspects.csv:2: the column 'file' has 'c.csv'"):
        load_all_rows(config)


@pytest.mark.parametrize("form", ["list", "text", "pattern"])
def test_several_lists(config, tmp_path, form):
    """A row that two lists have is dropped once."""
    names = [str(tmp_path / name) for name in ("list1.csv", "list2.csv")]
    for name, lines in zip(names, [(3, 7), (7, 12)], strict=True):
        config.drop_rows = name
        suspects(config, *lines)
    forms = {
        "list": names,
        "text": f"[{','.join(names)}]",  # as in a field of a command line that is quoted
        "pattern": str(tmp_path / "list*.csv"),
    }
    config.drop_rows = forms[form]
    rows = load_all_rows(config).train
    assert rows.accounting()["unused"] == {"dropped (data.drop_rows)": 3}
    assert rows.column("line") == [2, *range(4, 7), *range(8, 12), *range(13, 22)]
    write(Path(names[1]), ("line", "text"), [(7, "another text")])
    with pytest.raises(DataError, match=r"list2.csv:2: .*a.csv:7 has the text"):
        load_all_rows(config)
    config.drop_rows = [names[0], names[0]]
    with pytest.raises(DataError, match=r"list1\.csv"):
        load_all_rows(config)


def test_a_list_for_other_rows_is_refused(config):
    suspects(config, 3, text="another text")
    with pytest.raises(DataError) as caught:
        load_all_rows(config)
    message = str(caught.value)
    assert "suspects.csv:2: " in message and "a.csv:3 has the text 'text 1, so long'" in message
    assert "the list has 'another text'" in message and "Repeat bertft cross_validate" in message
    suspects(config, 3, label="c")
    with pytest.raises(DataError, match=r"a.csv:3 has the label 'b', and the list has 'c'"):
        load_all_rows(config)
    suspects(config, 3, line=22)
    with pytest.raises(DataError, match=r"a.csv:22 is not a training row"):
        load_all_rows(config)
    suspects(config, 3, line="three")
    with pytest.raises(DataError, match=r"'line' has 'three', not a line number. Use"):
        load_all_rows(config)
    suspects(config, 3, line="9" * 5000)  # more digits than int() accepts
    with pytest.raises(DataError, match=r"'9+… .*, not a line number"):
        load_all_rows(config)
    suspects(config, *range(2, 22))
    with pytest.raises(DataError, match="lists all training rows"):
        load_all_rows(config)
    write(Path(config.drop_rows), ("row", "text"), [])
    with pytest.raises(DataError, match=r"column 'line' not found \(columns: row, text\)"):
        load_all_rows(config)
    Path(config.drop_rows).write_bytes(b"line,text\n3,\xff\n")
    with pytest.raises(DataError, match="is not a CSV file in UTF-8"):
        load_all_rows(config)


def test_labels_of_several_classes_and_words(config, tmp_path):
    config.task = "multi_label"
    write(Path(config.train), ("text", "label"), [("x", "b|a"), ("y", ""), ("z", "a")] * 4)
    lines = [(2, "x", "b|a", ""), (3, "y", "", "a"), (4, "z", "a", "b")]
    write(Path(config.drop_rows), ("line", "text", "label", "suggestion"), lines)
    assert len(load_all_rows(config).train) == 9
