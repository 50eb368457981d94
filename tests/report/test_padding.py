from __future__ import annotations

import re

import numpy as np
import pytest

from bertft.report.page.render import page_style
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


def test_the_last_of_five_facts_is_never_alone_in_its_row():
    """A wide page has one row; below a width that the style sheet states, there are 3 and 2."""
    style = page_style()

    def pixels(pattern):
        return int(re.search(pattern, style)[1])

    narrowest = pixels(r"\.facts {[^}]*minmax\((\d+)px")
    gap = pixels(r"\.facts {[^}]*gap: \d+px (\d+)px")
    margin = pixels(r"main {[^}]*padding: \d+px (\d+)px")
    limit = pixels(r"\(max-width: (\d+)px\) { \.facts { grid-template-columns: repeat\(3,")
    assert (limit + 1 - 2 * margin + gap) // (narrowest + gap) == 5
