"""What a seed draws is the same in every version: old runs are compared with new ones."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
import pytest

from bertft.data.hold_out import hold_out_validation, sample_rows
from bertft.data.rows import BadRows, Rows
from bertft.errors import DataError

COUNT = 997


@pytest.fixture
def rows():
    places = range(COUNT)
    columns = {
        "label": ["abcd"[folder * folder % 7 % 4] for folder in places],
        "context": [str(work_dir // 5) for work_dir in places],
        "line": list(range(1, COUNT + 1)),
    }
    return Rows(pa.table(columns), BadRows("here"))


def drawn(rows):
    return hashlib.sha256(np.array(rows.column("line"), np.int64).tobytes()).hexdigest()[:12]


@pytest.mark.parametrize(
    ("how", "train", "validation"),
    [
        ({"stratified": True}, "1905deaea80e", "2c472ea494e1"),
        ({"stratified": False}, "2e3e4fb8eb28", "673c5603e57d"),
        ({"stratified": False, "group_column": "context"}, "272b0c3b533f", "ab71a388e3e1"),
    ],
)
def test_held_out_rows_are_random_and_complete(rows, how, train, validation):
    first, second = hold_out_validation(rows, 0.1, 3, **how)
    assert (len(first), len(second)) == (897, 100)
    assert (drawn(first), drawn(second)) == (train, validation)
    assert sorted(first.column("line") + second.column("line")) == rows.column("line")


def test_each_class_has_its_share_of_the_held_out_rows(rows):
    _, validation = hold_out_validation(rows, 0.1, 3, stratified=True)
    for name in "abcd":
        wanted = rows.column("label").count(name) / 10
        assert abs(validation.column("label").count(name) - wanted) < 1


def test_rows_of_a_group_are_held_out_together(rows):
    train, validation = hold_out_validation(rows, 0.1, 3, stratified=False, group_column="context")
    assert not set(train.column("context")) & set(validation.column("context"))


def test_a_sample_is_random_and_in_order(rows):
    assert (len(sample_rows(rows, 100, 5)), drawn(sample_rows(rows, 100, 5))) == (
        100,
        "0819f6cb0cfd",
    )
    assert sample_rows(rows, COUNT, 5) is rows and sample_rows(rows, None, 5) is rows


def test_held_out_rows_can_be_sampled(rows):
    train, _ = hold_out_validation(rows, 0.5, 0, stratified=True)
    some = sample_rows(train, 50, 0)
    assert len(some) == 50 and set(some.column("line")) < set(train.column("line"))


def test_a_class_of_one_row_stays_in_train():
    rows = Rows(pa.table({"label": ["a", "b", "c"], "line": [1, 2, 3]}), BadRows("here"))
    with pytest.raises(DataError, match="every class has a single row"):
        hold_out_validation(rows, 0.3, 0, stratified=True)


@pytest.mark.parametrize("groups", [["a"] * 20, ["a"] * 8 + ["b"] * 12])
def test_groups_that_leave_no_rows_to_train_on(groups):
    """The error does not claim that all rows have one group if they have two."""
    table = pa.table({"text": [f"t{n}" for n in range(20)], "group": groups})
    grouped = Rows(table.append_column("line", pa.array(range(1, 21))), BadRows("a.csv"))
    messages = set()
    for seed in range(6):
        try:
            hold_out_validation(grouped, 0.6, seed, stratified=False, group_column="group")
        except DataError as error:
            messages.add(str(error))
    expected = "all rows have the same group" if len(set(groups)) == 1 else "the 2 groups are"
    assert messages and all(expected in message for message in messages), messages
