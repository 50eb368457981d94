from __future__ import annotations

import pytest

from bertft.errors import DataError
from bertft.utils.messages import add_location


@pytest.mark.parametrize(
    ("where", "expected"), [(None, "runs/a: "), ("file.csv:3", "file.csv:3: ")]
)
def test_an_error_without_a_location_gets_one(where, expected):
    with pytest.raises(DataError) as caught, add_location("runs/a"):
        raise DataError("is damaged", where=where)
    assert str(caught.value) == f"{expected}is damaged"
