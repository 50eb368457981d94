"""Plans of runs against every possible one; rows that hold every sequence once."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from bertft.models.sequence_layout import (
    _CALL_COST_IN_PAIRS,
    pack_rows,
    packed_row_width,
    plan_chunks,
)


def price(lengths, cuts, prefix):
    bounds = [0, *cuts, len(lengths)]
    chunks = [lengths[a:b] for a, b in itertools.pairwise(bounds)]
    pairs = sum(len(chunk) * max(chunk) * (max(chunk) + prefix) for chunk in chunks)
    return _CALL_COST_IN_PAIRS * len(chunks) + pairs


def cheapest(lengths, prefix):
    places = range(1, len(lengths))
    return min(
        price(lengths, cuts, prefix)
        for count in range(len(lengths))
        for cuts in itertools.combinations(places, count)
    )


@pytest.mark.parametrize("prefix", [0, 16])
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("longest", [20, 120, 500])
def test_the_plan_is_the_cheapest_of_all(seed, longest, prefix):
    lengths = np.random.default_rng(seed).integers(1, longest, 9).tolist()
    if seed % 2:
        lengths.sort()
    runs = plan_chunks(lengths, prefix)
    assert price(lengths, [run.first_sequence for run in runs[1:]], prefix) == cheapest(
        lengths, prefix
    )


def test_plans_worth_their_calls():
    assert [(run.first_sequence, run.end_sequence) for run in plan_chunks([5, 6, 7, 8])] == [(0, 4)]
    assert [(run.first_sequence, run.end_sequence) for run in plan_chunks([10, 10, 400, 400])] == [
        (0, 2),
        (2, 4),
    ]
    # Padding two rows of 100 to 110 is cheaper than a call, until a long prefix makes it dear.
    assert len(plan_chunks([100] * 2 + [110])) == 1
    assert len(plan_chunks([100] * 2 + [110], prefix_length=500)) == 2


def test_an_accelerator_wants_few_calls():
    lengths = [*[20] * 16, *[400] * 16]
    assert len(plan_chunks(lengths)) == 2 and len(plan_chunks(lengths, on_accelerator=True)) == 2
    mixed = np.random.default_rng(0).integers(20, 200, 32).tolist()
    assert len(plan_chunks(sorted(mixed))) > 8
    assert len(plan_chunks(sorted(mixed), on_accelerator=True)) == 1
    many = sorted(np.random.default_rng(0).integers(5, 50, 5_000).tolist())
    assert len(plan_chunks(many, on_accelerator=True)) < 8 < 5_000 / 64 <= len(plan_chunks(many))


@pytest.mark.parametrize("launched", [False, True])
@pytest.mark.parametrize("count", [1, 63, 64, 65, 200])
def test_runs_cover_the_batch_in_order(count, launched):
    lengths = sorted(np.random.default_rng(count).integers(1, 90, count).tolist())
    runs = plan_chunks(lengths, on_accelerator=launched)
    assert runs[0].first_sequence == 0 and runs[-1].end_sequence == count
    at = 0
    for before, run in itertools.pairwise([None, *runs]):
        assert before is None or (before.end_sequence, before.token_end) == (
            run.first_sequence,
            run.token_start,
        )
        chunk = lengths[run.first_sequence : run.end_sequence]
        assert (run.token_start, run.token_end - run.token_start) == (at, sum(chunk))
        assert (run.max_length, run.equal_lengths) == (max(chunk), len(set(chunk)) == 1)
        at = run.token_end


@pytest.mark.parametrize("count", [1, 7, 100])
def test_rows_hold_every_sequence_once_and_in_one_piece(count):
    lengths = np.random.default_rng(count).integers(1, 64, count).tolist()
    rows, firsts, filled = pack_rows(lengths, 64)
    taken = np.zeros((filled, 64), dtype=int)
    for row, first, length in zip(rows, firsts, lengths, strict=True):
        assert first + length <= 64
        taken[row, first : first + length] += 1
    assert taken.max() == 1 and taken.any(1).all()


def test_first_fit_takes_the_longest_first():
    assert pack_rows([3, 6, 7, 4], 10) == ([0, 1, 0, 1], [7, 0, 0, 6], 2)


def test_rows_are_a_multiple_wide():
    assert [packed_row_width([3, n]) for n in (1, 64, 65)] == [64, 64, 128]


def test_lengths_of_chunks_can_be_rounded():
    """Then few shapes of attention occur; shorter sequences than T are padded."""
    lengths = [3, 5, 8, 8, 8, 21, 22]
    chunks = plan_chunks(lengths, length_multiple=8)
    assert all(chunk.max_length % 8 == 0 for chunk in chunks)
    for chunk in chunks:
        sequence_lengths = lengths[chunk.first_sequence : chunk.end_sequence]
        assert max(sequence_lengths) <= chunk.max_length < max(sequence_lengths) + 8
        assert chunk.equal_lengths == all(length == chunk.max_length for length in sequence_lengths)
    assert chunks[-1].end_sequence == len(lengths) and chunks[-1].token_end == sum(lengths)
    large_batch = plan_chunks(sorted(range(3, 50)), length_multiple=8)
    assert len(large_batch) > 1 and large_batch[-1].end_sequence == 47
    assert all(chunk.first_sequence % 4 == 0 for chunk in large_batch)
    larger_batch = plan_chunks(sorted(list(range(3, 50)) * 8), length_multiple=8)
    assert all(chunk.first_sequence % 16 == 0 for chunk in larger_batch)
    assert max(chunk.end_sequence - chunk.first_sequence for chunk in larger_batch) <= 64
