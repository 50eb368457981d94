from __future__ import annotations

import json
import math

import pyarrow as pa
import pytest

from bertft.config.data import DataConfig
from bertft.data.labels import distinct_labels, plain_number, sort_class_names, to_class_name
from bertft.data.rows import RowError
from bertft.data.splits import load_splits
from bertft.errors import DataError, UsageError
from bertft.tasks.shared.text_schema import parse_number, parse_zero_or_one


def splits(path, rows, task="classification", **settings):
    lines = [json.dumps({"text": f"text {folder}", **row}) for folder, row in enumerate(rows)]
    path.write_text("\n".join(lines))
    config = DataConfig(
        name="x", task=task, train=str(path), **{"validation": str(path), **settings}
    )
    return load_splits(config)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("pos", "pos"), (" pos\t", "pos"), ("好评", "好评"),
        (1, "1"), (-1, "-1"), (1.0, "1"), (1.5, "1.5"),
        (True, "true"), (False, "false"), ("", None), ("  ", None), (None, None), (math.nan, None),
    ],
)  # fmt: skip
def test_names_of_classes(value, name):
    assert to_class_name(value) == name


@pytest.mark.parametrize(
    ("value", "expected"), [("1.5", 1.5), (" 2 ", 2.0), (3, 3.0), ("1e3", 1000.0), ("", None)]
)
def test_numbers(value, expected):
    assert parse_number(value) == expected


@pytest.mark.parametrize(
    "value", ["a", "nan", "inf", "-Infinity", math.nan, math.inf, True, [1], 10**400, "1,5"]
)
def test_values_that_are_not_numbers_are_rejected(value):
    with pytest.raises(RowError, match=r"not a (finite|plain) number"):
        parse_number(value)


def test_zero_or_one():
    assert [parse_zero_or_one(value) for value in (1, "1", "1.0", True, "TRUE")] == [True] * 5
    assert [parse_zero_or_one(value) for value in (0, "0", 0.0, False, " false ")] == [False] * 5
    with pytest.raises(RowError, match="'2' is not 0 or 1"):
        parse_zero_or_one("2")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["10", "9", "-1"], ["-1", "9", "10"]),
        (["b", "10", "9"], ["10", "9", "b"]),
        (["true", "false"], ["false", "true"]),
        (["nan", "2", "1"], ["1", "2", "nan"]),
    ],
)
def test_numbers_sort_as_numbers(names, expected):
    assert sort_class_names(names) == expected


def test_classes_are_those_of_train(tmp_path):
    assert splits(tmp_path / "a.jsonl", [{"label": label} for label in (10, 9, 9)]).class_names == [
        "9",
        "10",
    ]
    truths = [{"label": label} for label in (True, False)]
    assert splits(tmp_path / "a.jsonl", truths).class_names == ["false", "true"]


def test_configured_classes_keep_their_order(tmp_path):
    loaded = splits(tmp_path / "a.jsonl", [{"label": "a"}, {"label": "b"}], labels=["b", "a"])
    assert loaded.class_names == ["b", "a"]


def test_configured_names_are_assigned_to_class_numbers(tmp_path):
    loaded = splits(tmp_path / "a.jsonl", [{"label": 0}, {"label": 1}], labels=["no", "yes"])
    assert loaded.train.column("label") == ["no", "yes"]


def test_configured_numbers_are_not_positions(tmp_path):
    with pytest.raises(DataError, match="the label '0' is not one of '1', '2'"):
        splits(tmp_path / "a.jsonl", [{"label": 0}, {"label": 1}], labels=[1, 2])


def test_a_test_split_without_labels_is_unlabelled(tmp_path):
    test = tmp_path / "test.jsonl"
    for label in (-1, None, ""):
        test.write_text(json.dumps({"text": "t", "label": label}) * 1)
        loaded = splits(tmp_path / "a.jsonl", [{"label": 0}, {"label": 1}], test=str(test))
        assert not loaded.test.has_labels
        assert len(loaded.test) == 1


def test_minus_one_among_others_is_a_class(tmp_path):
    loaded = splits(tmp_path / "a.jsonl", [{"label": label} for label in (-1, 0, 1)])
    assert loaded.class_names == ["-1", "0", "1"]


def test_train_without_labels_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no row has a label"):
        splits(tmp_path / "a.jsonl", [{"label": None}, {"label": ""}])


def test_several_labels_joined_or_listed(tmp_path):
    rows = [{"label": "b|a"}, {"label": ["a", "c", "a"]}, {"label": ""}, {"label": []}]
    loaded = splits(tmp_path / "a.jsonl", rows, "multi_label")
    assert loaded.class_names == ["a", "b", "c"]
    assert loaded.train.column("label") == [["b", "a"], ["a", "c"], [], []]
    loaded = splits(tmp_path / "a.jsonl", [{"label": "b; a"}], "multi_label", label_separator=";")
    assert loaded.train.column("label") == [["b", "a"]]


def test_an_unknown_label_of_several_is_invalid(tmp_path):
    rows = [{"label": "a|b"}, {"label": "a|x"}, {"label": ""}, {"label": "0|1"}]
    with pytest.raises(DataError, match=r"a.jsonl:2: the label 'x' is not one of 'a', 'b'"):
        splits(tmp_path / "a.jsonl", rows, "multi_label", labels=["a", "b"])
    loaded = splits(
        tmp_path / "a.jsonl",
        rows,
        "multi_label",
        labels=["a", "b"],
        on_bad_row="skip",
        max_skipped=1.0,
    )
    assert loaded.train.column("label") == [["a", "b"], []]  # a number among names is unknown


@pytest.mark.parametrize(("labels", "names"), [(None, ["rude", "loud"]), (["R", "L"], ["R", "L"])])
def test_one_column_per_label(tmp_path, labels, names):
    rows = [{"rude": 1, "loud": 0}, {"rude": True, "loud": "1.0"}, {"rude": 0, "loud": 0}]
    loaded = splits(
        tmp_path / "a.jsonl", rows, "multi_label", label=["rude", "loud"], labels=labels
    )
    assert loaded.class_names == names
    assert loaded.train.column("label") == [names[:1], names, []]


def test_a_list_of_one_label_column_is_one_class(tmp_path):
    loaded = splits(tmp_path / "a.jsonl", [{"rude": 1}, {"rude": 0}], "multi_label", label=["rude"])
    assert loaded.class_names == ["rude"]
    assert loaded.train.column("label") == [["rude"], []]


def test_a_label_column_must_contain_zeros_and_ones(tmp_path):
    rows = [{"rude": 1, "loud": 0}, {"rude": 2, "loud": 0}]
    with pytest.raises(DataError, match="2: the label 2 is not 0 or 1"):
        splits(tmp_path / "a.jsonl", rows, "multi_label", label=["rude", "loud"])
    with pytest.raises(UsageError, match=r"has 1 names, but data\.label has 2 columns"):
        splits(tmp_path / "a.jsonl", rows, "multi_label", label=["rude", "loud"], labels=["x"])


def test_regression_has_no_classes(tmp_path):
    loaded = splits(tmp_path / "a.jsonl", [{"label": "1.5"}, {"label": 2}], "regression")
    assert loaded.class_names is None
    assert loaded.train.column("label") == [1.5, 2.0]


@pytest.mark.parametrize(
    ("labels", "task", "message"),
    [
        (["good", "bad", "good"], "regression", "most labels are not numbers.*classification"),
        ([1.5] * 3, "regression", "all rows have the label 1.5"),
        (["a"] * 3, "classification", "all rows have the label a"),
        ([0.2, 3.8, 5, 1], "classification", "numbers such as.*data.task=regression"),
        (
            [f"sentence {folder}" for folder in range(30)],
            "classification",
            "30 different labels in 30",
        ),
        ([""] * 3, "multi_label", "no row has a label"),
    ],
)
def test_labels_of_the_wrong_kind_are_rejected(tmp_path, labels, task, message):
    with pytest.raises(DataError, match=message):
        splits(tmp_path / "a.jsonl", [{"label": label} for label in labels], task)


def test_named_numbers_are_classes(tmp_path):
    rows = [{"label": label} for label in (0.5, 1.0, 1.5)]
    loaded = splits(tmp_path / "a.jsonl", rows, labels=["0.5", "1", "1.5"])
    assert loaded.class_names == ["0.5", "1", "1.5"]


def test_a_validation_split_of_one_class_is_fine(tmp_path):
    (tmp_path / "dev.jsonl").write_text('{"text": "x", "label": "a"}')
    rows = [{"label": "a"}, {"label": "b"}]
    loaded = splits(tmp_path / "a.jsonl", rows, validation=str(tmp_path / "dev.jsonl"))
    assert len(loaded.validation) == 1


def test_distinct_labels_are_those_of_the_table():
    tables = [pa.table({"label": ["b", None, "a", "b"]}), pa.table({"label": [["x"], None, ["x"]]})]
    for _ in range(2):
        assert [distinct_labels(table) for table in tables] == [["b", "a"], ["x"]]
    many = pa.table({"label": [str(number) for number in range(2_000)]})
    assert distinct_labels(many) == distinct_labels(many) and len(distinct_labels(many)) == 2_000
    tables.clear()
    for number in range(20):  # a new table may get the id of a former one
        assert distinct_labels(pa.table({"label": [str(number)]})) == [str(number)]


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("1,234.50", "1234.50"),
        ("1.234,50", "1234.50"),
        ("1,234", "1234"),
        ("$12.30", "12.30"),
        ("US$ 3.20", "3.20"),
        ("3.50 EUR", "3.50"),
        ("3,5", "3.5"),
        ("12 %", "12"),
        ("-1 234,5", "-1234.5"),
        ("12.5", None),
        ("3.4.5", None),
        ("2020-01-02", None),
        ("N/A", None),
    ],
)
def test_the_plain_form_of_a_written_number(text, plain):
    assert plain_number(text) == plain


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_prices_are_refused_with_the_number_to_write(task, tmp_path):
    """Some of them have decimals and no separator, which is not enough for data.task=regression."""
    path = tmp_path / "a.csv"
    rows = [f'text {n},"{900 + n * 37.31:,.2f}"' for n in range(40)]
    path.write_text("\n".join(["text,label", *rows]) + "\n")
    with pytest.raises(DataError, match=r"write 1011\.93") as caught:
        load_splits(DataConfig(name="files", train=str(path), task=task), ("train",))
    assert "data.task=regression" not in caught.value.proposed_settings
