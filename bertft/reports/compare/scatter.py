"""The metric against the parameters that a method keeps, as one SVG: who is on the Pareto front?

A line is on the front unless another has no more parameters and no worse metric, and is better in
one of them. Parameters go by powers of ten, 0 in a place of its own at the left; colours are the
page's (CSS variables), so that the picture follows its theme.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from bertft.formats.figures import compact, score

__all__ = ["Point", "front", "scatter"]

_WIDTH, _HEIGHT = 760, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 76, 24, 20, 54
_TICKS = 5
_LETTER, _LINE = 6.8, 15  # about a letter's width (a Chinese one has two), a label's height


@dataclass(frozen=True)
class Point:
    """``std`` is drawn as a bar where there is one."""

    name: str
    parameters: int
    value: float
    std: float | None = None


def front(points: Sequence[Point], lower: bool) -> list[Point]:
    """Those that none beats, by ascending parameters; ``lower``: a smaller value is better."""
    sign = 1 if lower else -1
    best, kept = math.inf, []
    for point in sorted(points, key=lambda each: (each.parameters, sign * each.value)):
        if sign * point.value < best:
            best = sign * point.value
            kept.append(point)
        elif kept and (point.parameters, point.value) == (kept[-1].parameters, kept[-1].value):
            kept.append(point)
    return kept


def scatter(points: Sequence[Point], metric: str, lower: bool) -> str:
    """The ``<svg>`` element; at least one point."""
    across, up = _Across(points), _Up(points)
    best = front(points, lower)
    parts = [*_grid(across, up, metric)]
    if len(best) > 1:
        way = " ".join(f"{across(p.parameters):.1f},{up(p.value):.1f}" for p in best)
        parts.append(f'<polyline class="front" points="{way}"/>')
    taken = [(across(p.parameters) - 6, up(p.value) + 6, 12.0) for p in points]
    for point in sorted(points, key=lambda each: up(each.value)):
        parts += _mark(point, across(point.parameters), up(point.value), point in best, up, taken)
    words = f"{metric} against parameters of the method, {len(points)} lines"
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(words)}">'
        f"{''.join(parts)}</svg>"
    )


class _Across:
    """Parameters → x."""

    def __init__(self, points: Sequence[Point]) -> None:
        some = [point.parameters for point in points if point.parameters > 0] or [1]
        self.zero = any(point.parameters <= 0 for point in points)
        self.low = math.floor(math.log10(min(some)))
        self.high = max(self.low + 1, math.ceil(math.log10(max(some))))
        self.start = _LEFT + (60 if self.zero else 0)

    def __call__(self, parameters: int) -> float:
        if parameters <= 0:
            return _LEFT + 24
        share = (math.log10(parameters) - self.low) / (self.high - self.low)
        return self.start + share * (_WIDTH - _RIGHT - self.start)

    def ticks(self) -> Iterator[tuple[float, str]]:
        if self.zero:
            yield self(0), "0"
        for power in range(self.low, self.high + 1):
            yield self(10**power), compact(10**power)


class _Up:
    """Value → y, with room around the outermost."""

    def __init__(self, points: Sequence[Point]) -> None:
        ends = [p.value + side * (p.std or 0.0) for p in points for side in (-1, 1)]
        low, high = min(ends), max(ends)
        room = 0.12 * (high - low) or 0.05 * abs(high) or 1.0
        self.low, self.high = low - room, high + room

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _BOTTOM - _TOP)

    def ticks(self) -> Iterator[tuple[float, str]]:
        """At round values."""
        rough = (self.high - self.low) / _TICKS
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * by for by in (1, 2, 5, 10) if power * by >= rough)
        digits = max(0, -math.floor(math.log10(step)))
        number = math.ceil(self.low / step)
        while number * step <= self.high:
            yield self(number * step), f"{number * step:.{digits}f}"
            number += 1


def _grid(across: _Across, up: _Up, metric: str) -> Iterator[str]:
    foot = _HEIGHT - _BOTTOM
    for y, text in up.ticks():
        yield f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="tick" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'
    for x, text in across.ticks():
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{foot}"/>'
        yield f'<text class="tick" x="{x:.1f}" y="{foot + 18}" text-anchor="middle">{text}</text>'
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    yield (
        f'<text class="title" x="{middle}" y="{_HEIGHT - 10}" text-anchor="middle">'
        "parameters that the method keeps</text>"
    )
    y = (_TOP + foot) / 2
    yield (
        f'<text class="title" transform="translate(16 {y}) rotate(-90)" text-anchor="middle">'
        f"{escape(metric)}</text>"
    )


def _mark(
    point: Point, x: float, y: float, best: bool, up: _Up, taken: list[tuple[float, float, float]]
) -> Iterator[str]:
    name = escape(point.name)
    told = f"{name}: {score(point.value)}, {point.parameters:,} parameters"
    if point.std:
        ends = (up(point.value - point.std), up(point.value + point.std))
        yield f'<line class="bar" x1="{x:.1f}" x2="{x:.1f}" y1="{ends[0]:.1f}" y2="{ends[1]:.1f}"/>'
    style = "dot best" if best else "dot"
    yield f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="5"><title>{told}</title></circle>'
    width = _LETTER * sum(2 if ord(letter) > 0x2E7F else 1 for letter in point.name)
    places = [
        (x + side if side > 0 else x + side - width, y + 4 + down)
        for down in (0, -14, 14, -28, 28, -42, 42)
        for side in (10, -10)
    ]
    inside = [each for each in places if _LEFT < each[0] < _WIDTH - width and each[1] > _TOP]
    start, foot = next((each for each in inside if _free(*each, width, taken)), places[0])
    taken.append((start, foot, width))
    yield f'<text class="name" x="{start:.1f}" y="{foot:.1f}">{name}</text>'


def _free(start: float, foot: float, width: float, taken: list[tuple[float, float, float]]) -> bool:
    """Whether a label there lies on no dot and no other label."""
    return not any(
        abs(foot - other) < _LINE - 2 and start < begin + wide and begin < start + width
        for begin, other, wide in taken
    )
