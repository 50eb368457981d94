from __future__ import annotations

import pytest

from bertft.utils import numbers

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("count", 109_482_240, "109,482,240"),
        ("count", 812.4, "812"),
        ("compact", 0.0, "0"),
        ("compact", 812.4, "812"),
        ("compact", 999.4, "999"),
        ("compact", 999.6, "1.0k"),
        ("compact", 24_100, "24.1k"),
        ("compact", 99_960, "100k"),
        ("compact", 999_600, "1.0M"),
        ("compact", 3e15, "3000T"),
        ("compact", INF, "–"),
        ("size", 512, "512 B"),
        ("size", 1_234_567_890, "1.2 GB"),
        ("score", 0.91234, "0.9123"),
        ("score", -0.5, "-0.5000"),
        ("score", 0, "0.0000"),
        ("score", 83.4567, "83.46"),
        ("score", 0.00012345, "0.000123"),
        ("score", NAN, "nan"),
        ("measure", 288.0, "288"),
        ("measure", 8.234567, "8.235"),
        ("measure", 12345.6, "12,346"),
        ("measure", 1e12, "1e+12"),
        ("measure", -INF, "-inf"),
        ("rate", 9.12e-4, "9.1e-4"),
        ("rate", 5e-5, "5.0e-5"),
        ("rate", 0.0, "0"),
        ("clock", 0.4, "0:00"),
        ("clock", 252, "4:12"),
        ("clock", 3599.7, "1:00:00"),
        ("clock", 7509, "2:05:09"),
        ("clock", INF, "–"),
        ("duration", 8.44, "8.4 s"),
        ("duration", 59.97, "1 min 0 s"),
        ("duration", 252, "4 min 12 s"),
        ("duration", 7509, "2 h 5 min"),
    ],
)
def test_figures(name, value, text):
    assert getattr(numbers, name)(value) == text


@pytest.mark.parametrize("name", numbers.__all__)
def test_no_number_is_a_dash(name):
    assert getattr(numbers, name)(None) == "–"
