"""How the sequences of a batch are put together for attention.

    runs   neighbours of about one length, attended in one call each       (layout unpadded)
    rows   sequences one behind the other in rows of one width, first-fit  (layout rows)

Both depend on the lengths alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

__all__ = ["Run", "plan_rows", "plan_runs", "row_width"]

# One more attention call costs about as much as this many (query, key) pairs: below it,
# sequences of unlike length are padded together instead (see docs/performance.md).
_CALL_IN_PAIRS = 6_000

# On an accelerator: some ten kernels of 10 µs, begun one by one, while at 10¹⁴ operations a second
# and 12 · 768 of them a pair (BERT-base, both passes) a million pairs take 92 µs. Not measured.
_LAUNCH_IN_PAIRS = 1_000_000

_WIDEST = 64  # bounds the planning itself; on a CPU a run of 64 sequences amortises its call

# Rows are a multiple of this wide, so that few shapes occur and kernels made for one are reused.
_ROW_MULTIPLE = 64


@dataclass(frozen=True)
class Run:
    """Neighbouring sequences attended in one call: rows ``[first, last)`` of the batch.

    ``start:stop`` are their tokens in the stream. ``longest`` is T of the call; ``equal`` says
    that every sequence has that length, so that the tokens are a view and need no mask.
    """

    first: int
    last: int
    start: int
    stop: int
    longest: int
    equal: bool


def plan_runs(lengths: list[int], prefix: int = 0, launched: bool = False) -> list[Run]:
    """Cut the batch into runs of least calls · constant + padded pairs, by dynamic programming.

    Sequences are taken in the batch's order, so sort a batch by length before laying it out.
    ``launched``: a call is so many kernels of an accelerator; of many sequences it is cut at some
    64 places, since a few large runs are wanted and an accelerator waits for the plan.
    """
    call, count = (_LAUNCH_IN_PAIRS if launched else _CALL_IN_PAIRS), len(lengths)
    step = max(1, -(-count // _WIDEST)) if launched else 1
    borders = [*range(0, count, step), count]
    tops = [max(lengths[start:stop]) for start, stop in pairwise(borders)]
    best = [0.0] * len(borders)
    cut = [0] * len(borders)
    for stop in range(1, len(borders)):
        best[stop] = float("inf")
        longest = 0
        for start in range(stop - 1, -1, -1):
            longest = max(longest, tops[start])
            rows = borders[stop] - borders[start]
            cost = best[start] + call + rows * longest * (longest + prefix)
            if cost < best[stop]:
                best[stop], cut[stop] = cost, start
            if stop - start >= _WIDEST:
                break
    offsets = np.concatenate([[0], np.cumsum(lengths)]).tolist()
    runs: list[Run] = []
    stop = len(borders) - 1
    while stop:
        first, last = borders[cut[stop]], borders[stop]
        part = lengths[first:last]
        runs.append(
            Run(first, last, offsets[first], offsets[last], max(part), min(part) == max(part))
        )
        stop = cut[stop]
    return runs[::-1]


def row_width(lengths: list[int]) -> int:
    """Cells of a row: the longest sequence, rounded up to a multiple of 64."""
    return -(-max(lengths) // _ROW_MULTIPLE) * _ROW_MULTIPLE


def plan_rows(lengths: list[int], width: int) -> tuple[list[int], list[int], int]:
    """Row and first cell of each sequence, and the number of rows: first-fit, longest first.

    At most 11/9 of the fewest rows possible, and 6/9 of one more (Dósa 2007).
    """
    rows, firsts = [0] * len(lengths), [0] * len(lengths)
    filled: list[int] = []
    for number in sorted(range(len(lengths)), key=lambda each: -lengths[each]):
        length = lengths[number]
        row = next((at for at, used in enumerate(filled) if used + length <= width), len(filled))
        if row == len(filled):
            filled.append(0)
        rows[number], firsts[number] = row, filled[row]
        filled[row] += length
    return rows, firsts, len(filled)
