"""The reason that inspect gives for the task of a file."""

from __future__ import annotations

import pytest

from bertft.data.column_facts import ColumnFacts
from bertft.pipeline.inspection import _explain_missing_label


@pytest.mark.parametrize(
    ("example", "reason"),
    [
        ("$12.30", "numbers such as '$12.30': write 12.30, then set data.task=regression"),
        ("a note", "no column looks like labels; set data.label=<column> if one has them"),
    ],
)
def test_a_column_of_prices_could_be_the_label(example, reason):
    columns = [
        ColumnFacts("text", "text", "text", 40, 0, 40, 20.0, "5 %"),
        ColumnFacts("price", "", "text", 40, 0, 40, 6.0, example),
    ]
    assert reason in _explain_missing_label(columns)
