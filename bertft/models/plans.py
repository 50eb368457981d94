"""How the sequences of a batch are put together for attention.

    runs   neighbours of about one length, attended in one call each       (layout stream)
    rows   sequences one behind the other in rows of one width, first-fit  (layout rows)

Both depend on the lengths alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Run", "plan_rows", "plan_runs", "row_width"]

# One more attention call costs about as much as this many (query, key) pairs: below it,
# sequences of unlike length are padded together instead (see docs/performance.md).
_CALL_IN_PAIRS = 6_000

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


def plan_runs(lengths: list[int], prefix: int = 0) -> list[Run]:
    """Cut the batch into runs of least calls · constant + padded pairs, by dynamic programming.

    Sequences are taken in the batch's order, so sort a batch by length before laying it out.
    """
    count = len(lengths)
    best = [0.0] * (count + 1)
    cut = [0] * (count + 1)
    for stop in range(1, count + 1):
        best[stop] = float("inf")
        longest = 0
        for start in range(stop - 1, -1, -1):
            longest = max(longest, lengths[start])
            cost = best[start] + _CALL_IN_PAIRS + (stop - start) * longest * (longest + prefix)
            if cost < best[stop]:
                best[stop], cut[stop] = cost, start
            if stop - start >= 64:  # bounds the planning itself; a run of 64 amortises its call
                break
    offsets = np.concatenate([[0], np.cumsum(lengths)]).tolist()
    runs: list[Run] = []
    stop = count
    while stop:
        start = cut[stop]
        part = lengths[start:stop]
        runs.append(
            Run(start, stop, offsets[start], offsets[stop], max(part), min(part) == max(part))
        )
        stop = start
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
