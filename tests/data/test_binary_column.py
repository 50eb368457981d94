"""A label column of 0 and 1 gives its name to the classes."""

from __future__ import annotations

import pytest

from bertft.config.data import DataConfig
from bertft.data.splits import load_splits


def classes(tmp_path, column, values, **settings):
    lines = [f"text {number},{values[number % len(values)]}" for number in range(12)]
    (tmp_path / "rows.csv").write_text("\n".join([f"text,{column}", *lines]) + "\n")
    config = DataConfig(name="x", train=str(tmp_path / "rows.csv"), label=column, **settings)
    splits = load_splits(config, name_binary_column=True)
    return splits.class_names, splits.named_labels, sorted(set(splits.train.column("label")))


@pytest.mark.parametrize("values", [("0", "1"), ("1", "0")])
def test_the_column_names_the_classes(tmp_path, values):
    names, labels, rows = classes(tmp_path, "toxic", values)
    assert names == ["not toxic", "toxic"] and labels == names
    assert rows == ["not toxic", "toxic"]


@pytest.mark.parametrize(
    ("column", "values", "settings"),
    [
        ("label", ("0", "1"), {}),
        ("Target", ("0", "1"), {}),
        ("toxic", ("0", "1", "2"), {}),
        ("toxic", ("1", "2"), {}),
        ("toxic", ("no", "yes"), {}),
        ("toxic", ("false", "true"), {}),
        ("toxic", ("0", "1"), {"labels": ["0", "1"]}),
    ],
)
def test_other_columns_keep_their_labels(tmp_path, column, values, settings):
    names, labels, rows = classes(tmp_path, column, values, **settings)
    assert names == rows == sorted(values) and labels is None


def test_only_new_runs_name_the_classes(tmp_path):
    classes(tmp_path, "toxic", ("0", "1"))
    config = DataConfig(name="x", train=str(tmp_path / "rows.csv"), label="toxic")
    assert load_splits(config).class_names == ["0", "1"]
