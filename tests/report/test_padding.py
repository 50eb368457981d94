from __future__ import annotations

import numpy as np
import pytest

from bertft.report.run_report import padding_fraction

PASSES = [np.array([10, 30]), np.array([64, 40, 24])]  # 40 and 128 tokens


@pytest.mark.parametrize(
    ("layout", "positions"),
    [("unpadded", 168), ("padded", 2 * 30 + 3 * 64), ("packed", 64 + 2 * 64)],
)
def test_padding_of_each_layout(layout, positions):
    assert padding_fraction(PASSES, layout) == pytest.approx(1 - 168 / positions)


def test_no_passes():
    assert padding_fraction([], "padded") == 0.0
