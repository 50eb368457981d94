from __future__ import annotations

import pytest

from bertft.utils import numbers

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("format_count", 109_482_240, "109,482,240"),
        ("format_count", 812.4, "812"),
        ("format_compact", 0.0, "0"),
        ("format_compact", 812.4, "812"),
        ("format_compact", 999.4, "999"),
        ("format_compact", 999.6, "1.0k"),
        ("format_compact", 24_100, "24.1k"),
        ("format_compact", 99_960, "100k"),
        ("format_compact", 999_600, "1.0M"),
        ("format_compact", 3e15, "3000T"),
        ("format_compact", INF, "–"),
        ("format_bytes", 512, "512 B"),
        ("format_bytes", 1_234_567_890, "1.2 GB"),
        ("format_score", 0.91234, "0.9123"),
        ("format_score", -0.5, "-0.5000"),
        ("format_score", 0, "0.0000"),
        ("format_score", 83.4567, "83.46"),
        ("format_score", 0.00012345, "0.000123"),
        ("format_score", NAN, "nan"),
        ("format_number", 288.0, "288"),
        ("format_number", 8.234567, "8.235"),
        ("format_number", 12345.6, "12,346"),
        ("format_number", 1e12, "1e+12"),
        ("format_number", -INF, "-inf"),
        ("format_rate", 9.12e-4, "9.1e-4"),
        ("format_rate", 5e-5, "5.0e-5"),
        ("format_rate", 0.0, "0"),
        ("format_clock", 0.4, "0:00"),
        ("format_clock", 252, "4:12"),
        ("format_clock", 3599.7, "1:00:00"),
        ("format_clock", 7509, "2:05:09"),
        ("format_clock", INF, "–"),
        ("format_duration", 8.44, "8.4 s"),
        ("format_duration", 59.97, "1 min 0 s"),
        ("format_duration", 252, "4 min 12 s"),
        ("format_duration", 7509, "2 h 5 min"),
    ],
)
def test_formats(name, value, text):
    assert getattr(numbers, name)(value) == text


@pytest.mark.parametrize("name", [name for name in numbers.__all__ if name.startswith("format_")])
def test_none_is_a_dash(name):
    assert getattr(numbers, name)(None) == "–"
