"""How the sequences of a batch are put together for attention.

    runs   neighbours of about one length, attended in one call each       (layout unpadded)
    rows   sequences one behind the other in rows of one width, first-fit  (layout rows)

Both depend on the lengths alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

__all__ = ["AttentionChunk", "pack_rows", "plan_chunks", "packed_row_width"]

# One more attention call costs about as much as this many (query, key) pairs: below it,
# sequences of unlike length are padded together instead (see docs/performance.md).
_CALL_COST_IN_PAIRS = 6_000

# On an accelerator: some ten kernels of 10 µs, begun one by one, while at 10¹⁴ operations a second
# and 12 · 768 of them a pair (BERT-base, both passes) a million pairs take 92 µs. Not measured.
_LAUNCH_COST_IN_PAIRS = 1_000_000

_MAX_CHUNK_SEQUENCES = 64  # bounds the planning itself; on a CPU a run of 64 sequences amortises its call

# Rows are a multiple of this wide, so that few shapes occur and kernels made for one are reused.
_ROW_MULTIPLE = 64


@dataclass(frozen=True)
class AttentionChunk:
    """Neighbouring sequences attended in one call: rows ``[first, last)`` of the batch.

    ``start:stop`` are their tokens in the stream. ``max_length`` is T of the call; ``equal_lengths`` says
    that every sequence has that length, so that the tokens are a view and need no mask.
    """

    first_sequence: int
    end_sequence: int
    token_start: int
    token_end: int
    max_length: int
    equal_lengths: bool


def plan_chunks(lengths: list[int], prefix_length: int = 0, on_accelerator: bool = False) -> list[AttentionChunk]:
    """Cut the batch into runs of least calls · constant + padded pairs, by dynamic programming.

    Sequences are taken in the batch's order, so sort a batch by length before laying it out.
    ``on_accelerator``: a call is so many kernels of an accelerator; of many sequences it is cut at some
    64 places, since a few large runs are wanted and an accelerator waits for the plan.
    """
    call_cost, count = (_LAUNCH_COST_IN_PAIRS if on_accelerator else _CALL_COST_IN_PAIRS), len(lengths)
    border_step = max(1, -(-count // _MAX_CHUNK_SEQUENCES)) if on_accelerator else 1
    borders = [*range(0, count, border_step), count]
    block_max_lengths = [max(lengths[start:stop]) for start, stop in pairwise(borders)]
    least_costs = [0.0] * len(borders)
    best_starts = [0] * len(borders)
    for stop in range(1, len(borders)):
        least_costs[stop] = float("inf")
        max_length = 0
        for start in range(stop - 1, -1, -1):
            max_length = max(max_length, block_max_lengths[start])
            sequence_count = borders[stop] - borders[start]
            cost = least_costs[start] + call_cost + sequence_count * max_length * (max_length + prefix_length)
            if cost < least_costs[stop]:
                least_costs[stop], best_starts[stop] = cost, start
            if stop - start >= _MAX_CHUNK_SEQUENCES:
                break
    offsets = np.concatenate([[0], np.cumsum(lengths)]).tolist()
    chunks: list[AttentionChunk] = []
    stop = len(borders) - 1
    while stop:
        first_sequence, end_sequence = borders[best_starts[stop]], borders[stop]
        chunk_lengths = lengths[first_sequence:end_sequence]
        chunks.append(
            AttentionChunk(first_sequence, end_sequence, offsets[first_sequence], offsets[end_sequence], max(chunk_lengths), min(chunk_lengths) == max(chunk_lengths))
        )
        stop = best_starts[stop]
    return chunks[::-1]


def packed_row_width(lengths: list[int]) -> int:
    """Cells of a row: the longest sequence, rounded up to a multiple of 64."""
    return -(-max(lengths) // _ROW_MULTIPLE) * _ROW_MULTIPLE


def pack_rows(lengths: list[int], width: int) -> tuple[list[int], list[int], int]:
    """Row and first cell of each sequence, and the number of rows: first-fit, longest first.

    At most 11/9 of the fewest rows possible, and 6/9 of one more (Dósa 2007).
    """
    rows, first_slots = [0] * len(lengths), [0] * len(lengths)
    filled: list[int] = []
    for sequence in sorted(range(len(lengths)), key=lambda each: -lengths[each]):
        length = lengths[sequence]
        chosen_row = next((candidate for candidate, used in enumerate(filled) if used + length <= width), len(filled))
        if chosen_row == len(filled):
            filled.append(0)
        rows[sequence], first_slots[sequence] = chosen_row, filled[chosen_row]
        filled[chosen_row] += length
    return rows, first_slots, len(filled)
