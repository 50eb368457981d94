from __future__ import annotations

import numpy as np
import pytest

from bertft.report.run_report import padding_fraction

PASSES = [np.array([10, 30]), np.array([64, 40, 24])]  # 40 and 128 tokens


@pytest.mark.parametrize(
    ("layout", "cells"),
    [("unpadded", 168), ("padded", 2 * 30 + 3 * 64), ("packed", 64 + 2 * 64)],
)
def test_cells_without_a_token(layout, cells):
    assert padding_fraction(PASSES, layout) == pytest.approx(1 - 168 / cells)


def test_of_nothing():
    assert padding_fraction([], "padded") == 0.0
