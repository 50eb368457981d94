"""Numbers formatted for people. Units are decimal: 1 kB = 1000 B.

format_count(24100)     24,100        format_bytes(1_234_567_890)   1.2 GB
format_compact(24100)   24.1k         format_duration(252)          4 min 12 s
format_score(0.91234)   0.9123        format_clock(252)             4:12
format_number(288.0)    288           format_rate(9.1e-4)           9.1e-4

All of them return a dash for None.
"""

from __future__ import annotations

import math

__all__ = [
    "format_bytes",
    "format_clock",
    "format_compact",
    "format_count",
    "format_duration",
    "format_number",
    "format_rate",
    "format_score",
]


_NONE = "–"
_THOUSANDS = ("", "k", "M", "G", "T")


def format_count(number: float | None) -> str:
    """A whole number with thousands separators."""
    return _NONE if number is None else f"{number:,.0f}"


def format_compact(number: float | None) -> str:
    """About three digits and a unit, for a live display."""
    if number is None or not math.isfinite(number):
        return _NONE
    return "".join(_scaled(number))


def format_bytes(byte_count: float | None) -> str:
    """A number of bytes with its unit."""
    if byte_count is None:
        return _NONE
    digits, unit = _scaled(byte_count)
    return f"{digits} {unit}B"


def format_score(value: float | None) -> str:
    """A metric or loss: four decimals below 10, two above (scores in percent)."""
    if value is None:
        return _NONE
    if not math.isfinite(value):
        return str(value)
    magnitude = abs(value)
    if magnitude >= 1e6 or 0 < magnitude < 1e-3:
        return f"{value:.3g}"
    return f"{value:.4f}" if magnitude < 10 else f"{value:,.2f}"


def format_number(value: float | None) -> str:
    """A number of any magnitude, without decimals if it is whole."""
    if value is None:
        return _NONE
    if not math.isfinite(value):
        return str(value)
    if float(value).is_integer() and abs(value) < 1e9:
        return f"{value:,.0f}"
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.4g}"


def format_rate(value: float | None) -> str:
    """A learning rate: two digits and the exponent without zeros."""
    if value is None:
        return _NONE
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits, exponent = f"{value:.1e}".split("e")
    return f"{digits}e{int(exponent)}"


def format_clock(seconds: float | None) -> str:
    """``m:ss`` or ``h:mm:ss``."""
    if seconds is None or not math.isfinite(seconds):
        return _NONE
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def format_duration(seconds: float | None) -> str:
    """A duration: ``8.4 s``, ``4 min 12 s``, ``2 h 5 min``."""
    if seconds is None:
        return _NONE
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _scaled(number: float) -> tuple[str, str]:
    """Digits and unit; a number that rounds to 1000 gets the next unit."""
    value, power = float(number), 0
    while abs(value) >= 999.5 and power < len(_THOUSANDS) - 1:
        value, power = value / 1000, power + 1
    if power == 0:
        return f"{value:.0f}", ""
    return f"{value:.0f}" if abs(value) >= 99.95 else f"{value:.1f}", _THOUSANDS[power]
