from __future__ import annotations

import numpy as np
import pytest

from bertft.data.batch import (
    LengthGroupedSampler,
    evaluation_batches,
    split_into_micro_batches,
)
from bertft.models.sequence_layout import rounded_slot_count

LENGTHS = np.random.default_rng(0).integers(3, 200, 1003).astype(np.int32)


@pytest.mark.parametrize("window", [1, 2, 50, 1000])
def test_every_row_once_an_epoch(window):
    order = LengthGroupedSampler(LENGTHS, 8, 0, window)
    batches = list(order.epoch_batches(0))
    assert len(batches) == order.steps_per_epoch == 126
    assert sorted(np.concatenate(batches).tolist()) == list(range(1003))
    assert sorted({len(batch) for batch in batches}) == [3, 8]


def test_seed_and_epoch_alone_decide():
    def rows(seed, epoch, window=4):
        return np.concatenate(
            LengthGroupedSampler(LENGTHS, 8, seed, window).epoch_batches(epoch)
        ).tolist()

    assert rows(0, 0) == rows(0, 0)
    different = [rows(0, 0), rows(0, 1), rows(1, 0), rows(1, 1), rows(0, 0, window=5)]
    assert all(one != other for i, one in enumerate(different) for other in different[:i])


def test_any_batch_can_be_computed_alone():
    order = LengthGroupedSampler(LENGTHS, 8, 3, 10)
    whole = list(order.epoch_batches(2))
    fresh = order.epoch_batches(2)
    for number in (125, 0, 64, 63, -1):
        np.testing.assert_array_equal(fresh[number], whole[number])
    for one, other in zip(order.epoch_batches(2)[100:], whole[100:], strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(IndexError):
        fresh[126]


def padding(batches) -> float:
    cells = sum(len(batch) * LENGTHS[batch].max() for batch in batches)
    return cells / LENGTHS.sum() - 1


def test_a_window_puts_similar_lengths_together_and_one_does_not():
    assert padding(LengthGroupedSampler(LENGTHS, 8, 0, 50).epoch_batches(0)) < 0.05
    assert padding(LengthGroupedSampler(LENGTHS, 8, 0, 1).epoch_batches(0)) > 0.5


def test_batches_of_a_window_do_not_come_sorted():
    longest = [
        LENGTHS[batch].max() for batch in LengthGroupedSampler(LENGTHS, 8, 0, 50).epoch_batches(0)
    ][:50]
    assert abs(np.corrcoef(np.arange(50), longest)[0, 1]) < 0.5


def test_a_start_in_the_middle_costs_one_window(monkeypatch):
    """An epoch of many rows is shuffled once, and only the window of the batch is sorted."""
    sorted_rows = []

    def observed(indices, size):
        sorted_rows.append(len(indices))
        return split_into_micro_batches(indices, size)

    monkeypatch.setattr("bertft.data.batch.split_into_micro_batches", observed)
    sampler = LengthGroupedSampler(np.full(1_000_000, 20, np.int32), 32, 0, 50)
    epoch = sampler.epoch_batches(0)
    assert len(epoch[30_000]) == 32 and sorted_rows == [32 * 50]
    assert epoch._shuffled_rows.nbytes == 4_000_000


def test_micro_batches_keep_the_order():
    pieces = split_into_micro_batches(np.arange(10), 4)
    assert [piece.tolist() for piece in pieces] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


@pytest.mark.parametrize("budget", [1, 150, 1000, 100_000])
def test_evaluation_sees_every_row_once_within_the_budget(budget):
    batches = evaluation_batches(LENGTHS, budget, max_rows=64)
    assert sorted(np.concatenate(batches).tolist()) == list(range(1003))
    for batch in batches:
        assert len(batch) == 1 or LENGTHS[batch].sum() <= budget
        assert len(batch) == 1 or len(batch) * LENGTHS[batch].max() <= budget * 9 / 8
        assert len(batch) <= 64
    longest = [int(LENGTHS[batch].max()) for batch in batches]
    assert longest == sorted(longest, reverse=True)


def test_evaluation_has_no_small_last_batch():
    lengths = np.full(1001, 20, np.int32)  # five batches of 192 rows would leave 41
    assert [len(batch) for batch in evaluation_batches(lengths, 4096)] == [176] * 5 + [121]


def test_evaluation_batches_of_similar_blocks_have_few_sizes():
    sizes = set()
    for seed in range(20):
        lengths = np.random.default_rng(seed).integers(5, 28, 4096)
        batches = evaluation_batches(lengths, 4096)
        sizes |= {rounded_slot_count(int(lengths[rows].sum())) for rows in batches}
    assert len(sizes) <= 16, sizes


def test_evaluation_of_nothing():
    assert evaluation_batches(np.array([], np.int32), 100) == []
