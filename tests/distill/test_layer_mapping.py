"""Which layers of a teacher a student is made of, and learns from."""

from __future__ import annotations

import pytest

from bertft.distill.layer_mapping import map_layers, select_teacher_layers
from bertft.errors import UsageError


@pytest.mark.parametrize(
    ("wanted", "layers", "chosen"),
    [
        (6, 12, [0, 2, 4, 7, 9, 11]),  # DistilBERT's
        (3, 6, [0, 2, 5]),
        (1, 6, [0]),
        (6, 6, [0, 1, 2, 3, 4, 5]),
        (2, 3, [0, 2]),
        ([0, 2, 5], 6, [0, 2, 5]),
    ],
)
def test_cut(wanted, layers, chosen):
    assert select_teacher_layers(wanted, layers) == chosen


@pytest.mark.parametrize(("wanted", "layers"), [(7, 6), (0, 6), ([0, 6], 6)])
def test_layers_that_are_not_there(wanted, layers):
    with pytest.raises(UsageError) as caught:
        select_teacher_layers(wanted, layers)
    assert caught.value.where == "method.distill.student_layers"


@pytest.mark.parametrize(
    ("wanted", "student", "teacher", "pairs"),
    [
        ("uniform", 3, 6, [1, 3, 5]),
        ("uniform", 4, 12, [2, 5, 8, 11]),
        ("uniform", 4, 6, [0, 2, 3, 5]),
        ("uniform", 6, 3, [0, 0, 0, 1, 1, 2]),
        ("last", 3, 6, [3, 4, 5]),
        ([0, 2, 5], 3, 6, [0, 2, 5]),
    ],
)
def test_map(wanted, student, teacher, pairs):
    assert map_layers(wanted, student, teacher) == pairs


@pytest.mark.parametrize("wanted", [[0, 2], [0, 2, 6], "last"])
def test_maps_that_cannot_be(wanted):
    with pytest.raises(UsageError):
        map_layers(wanted, 3, 6 if isinstance(wanted, list) else 2)
