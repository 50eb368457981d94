"""Folds: those of scikit-learn, no group in two of them, and what cannot be split."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from bertft.config.data import DataConfig
from bertft.data.folds import assign_folds, hold_out_fold, rare_classes
from bertft.data.rows import BadRows, Rows
from bertft.data.schema import build_row_schema
from bertft.data.splits import check_folds, load_all_rows, load_splits
from bertft.errors import DataError, UsageError

model_selection = pytest.importorskip("sklearn.model_selection")
COUNT = 60


def make(labels, groups=None, **settings):
    config = DataConfig(name="x", **{"folds": 5, "group": groups and "who"} | settings)
    columns = {"text": [f"text {n}" for n in range(len(labels))], "label": labels}
    if groups is not None:
        columns["group"] = groups
    columns["line"] = list(range(2, len(labels) + 2))
    return Rows(pa.table(columns), BadRows("a.csv")), config, build_row_schema(config)


LABELS = ["a" if n % 4 else "b" for n in range(COUNT)]
GROUPS = [f"p{n * n % 17}" for n in range(COUNT)]
KINDS = {
    "classes": (LABELS, None, {}, "StratifiedKFold"),
    "classes in groups": (LABELS, GROUPS, {}, "StratifiedGroupKFold"),
    "numbers": ([float(n) for n in range(COUNT)], None, {"task": "regression"}, "KFold"),
    "numbers in groups": ([1.0] * COUNT, GROUPS, {"task": "regression"}, "GroupKFold"),
    "labels": ([["a"]] * COUNT, None, {"task": "multi_label"}, "KFold"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_folds_are_those_of_scikit_learn(kind):
    labels, groups, settings, splitter = KINDS[kind]
    rows, config, schema = make(labels, groups, seed=3, repeat=2, **settings)
    reference = getattr(model_selection, splitter)(5, shuffle=True, random_state=4)
    codes = [0 if label == labels[0] else 1 for label in labels]
    numbers = list(dict.fromkeys(groups or ()))
    groups = groups and [numbers.index(name) for name in groups]  # sklearn sorts the groups
    folds = assign_folds(rows, config, schema)
    for number, (_, held_out) in enumerate(reference.split(codes, codes, groups), 1):
        assert np.flatnonzero(folds == number).tolist() == held_out.tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_is_in_one_fold_and_repetitions_differ(kind):
    labels, groups, settings, _ = KINDS[kind]
    rows, config, schema = make(labels, groups, **settings)
    lines = []
    for fold in range(1, 6):
        rest, held_out = hold_out_fold(rows, dataclasses.replace(config, fold=fold), schema)
        assert sorted(rest.column("line") + held_out.column("line")) == rows.column("line")
        assert rest.accounting()["read"] == COUNT == rest.accounting()["used"] + len(held_out)
        lines += held_out.column("line")
    assert sorted(lines) == rows.column("line")
    again = assign_folds(rows, dataclasses.replace(config, repeat=2), schema)
    assert (again != assign_folds(rows, config, schema)).any()


def test_large_groups_leave_no_fold_empty():
    """StratifiedGroupKFold leaves one of three folds empty here."""
    labels = ["a"] * 20 + ["b"] * 20 + ["c"]
    groups = ["p"] * 20 + ["q"] * 20 + ["r"]
    rows, config, schema = make(labels, groups, folds=3)
    assert set(assign_folds(rows, config, schema)) == {1, 2, 3}


def test_what_cannot_be_split():
    for labels, groups, settings, message in (
        (["a", "b", "a"], None, {}, "5 folds need at least 5 rows, and there are 3"),
        (["a"] * 9, ["p", "q", "r"] * 3, {}, "column 'who' has 3 distinct values"),
        ([*"abcdefg"], None, {}, "the largest class, 'a', has 1"),
    ):
        with pytest.raises(DataError, match=message):
            assign_folds(*make(labels, groups, **settings))
    rows, config, schema = make(["a", "b"] * 4, ["p", "p", "q", "q"] * 2, folds=2)
    with pytest.raises(DataError, match=r"outside of fold 1, no row can be held out.*group"):
        check_folds(rows, schema, config)
    rows, config, schema = make([*"aaaaabb"])
    assert rare_classes(rows, 5) == ["b"] and set(check_folds(rows, schema, config)) == {
        *range(1, 6)
    }


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sklearn", None)
    with pytest.raises(UsageError, match=r"need scikit-learn.*bertft\[cross-validation\]"):
        assign_folds(*make(LABELS))


@pytest.fixture
def grouped_file(tmp_path):
    lines = [f"text {n},{LABELS[n]},{GROUPS[n]}" for n in range(COUNT)]
    path = tmp_path / "a.csv"
    path.write_text("text,label,who\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return DataConfig(name="files", train=str(path), group="who", folds=3, fold=2)


def test_no_group_is_in_two_splits_of_a_fold(grouped_file):
    splits = load_splits(grouped_file)
    groups = [set(rows.column("group")) for _, rows in splits.items()]
    assert len(groups) == 3 and all(groups)
    assert sum(map(len, groups)) == len(set().union(*groups)) == len(set(GROUPS))
    assert sum(len(rows) for _, rows in splits.items()) == COUNT
    # Each split alone is the same, as an evaluation reads it.
    for name, rows in splits.items():
        alone = getattr(load_splits(grouped_file, (name, "validation")), name)
        assert alone.column("line") == rows.column("line")
    assert len(load_all_rows(grouped_file).train) == COUNT
    other = dataclasses.replace(grouped_file, test=grouped_file.train)
    assert len(load_splits(other, ("test",)).test) == COUNT, "a file of eval is not a fold"


def test_a_missing_column_of_groups(grouped_file):
    wrong = dataclasses.replace(grouped_file, group="whom")
    with pytest.raises(DataError, match=r"data.group=whom: .*no row has a value in the column"):
        load_all_rows(wrong)
