"""Plans of runs against every possible one; where tokens lie."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from bertft.models.sequences import _CALL_IN_PAIRS, Sequences, plan_runs

CPU = torch.device("cpu")


def price(lengths, cuts, prefix):
    bounds = [0, *cuts, len(lengths)]
    parts = [lengths[a:b] for a, b in itertools.pairwise(bounds)]
    pairs = sum(len(part) * max(part) * (max(part) + prefix) for part in parts)
    return _CALL_IN_PAIRS * len(parts) + pairs


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
    runs = plan_runs(lengths, prefix)
    assert price(lengths, [run.first for run in runs[1:]], prefix) == cheapest(lengths, prefix)


def test_plans_worth_their_calls():
    assert [(run.first, run.last) for run in plan_runs([5, 6, 7, 8])] == [(0, 4)]
    assert [(run.first, run.last) for run in plan_runs([10, 10, 400, 400])] == [(0, 2), (2, 4)]
    # Padding two rows of 100 to 110 is cheaper than a call, until a long prefix makes it dear.
    assert len(plan_runs([100] * 2 + [110])) == 1
    assert len(plan_runs([100] * 2 + [110], prefix=500)) == 2


@pytest.mark.parametrize("count", [1, 63, 64, 65, 200])
def test_runs_cover_the_batch_in_order(count):
    lengths = sorted(np.random.default_rng(count).integers(1, 90, count).tolist())
    runs = plan_runs(lengths)
    assert runs[0].first == 0 and runs[-1].last == count
    at = 0
    for before, run in itertools.pairwise([None, *runs]):
        assert before is None or (before.last, before.stop) == (run.first, run.start)
        part = lengths[run.first : run.last]
        assert (run.start, run.stop - run.start) == (at, sum(part))
        assert (run.longest, run.equal) == (max(part), len(set(part)) == 1)
        at = run.stop


def test_places_of_tokens():
    found = Sequences([3, 1, 4], "stream", CPU)
    assert found.positions().tolist() == [0, 1, 2, 0, 0, 1, 2, 3]
    assert found.offsets().tolist() == [0, 3, 4, 8] and found.offsets().dtype == torch.int32
    assert found.starts().tolist() == [0, 3, 4]
    assert found.own().tolist() == list(range(8))
    assert found.longest == 4
    assert found.real().int().tolist() == [[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]]


def test_places_after_a_prompt():
    """Lengths count the prompt's two vectors."""
    found = Sequences([4, 3], "stream", CPU, prompt=2)
    assert found.starts().tolist() == [2, 6]
    assert found.own().tolist() == [2, 3, 6]
    assert found.positions().tolist() == [0, 1, 2, 3, 0, 1, 2]


def test_cells_of_a_run_point_at_tokens_of_their_own_row():
    found = Sequences([2, 1, 3], "stream", CPU)
    [run] = found.runs
    assert found.run_cells(run).tolist() == [[0, 1, 1], [2, 2, 2], [3, 4, 5]]
    assert found.run_real(run).int().tolist() == [[1, 1, 0], [1, 0, 0], [1, 1, 1]]


def test_cells_of_a_later_run():
    found = Sequences([2, 2, 300, 301], "stream", CPU)
    first, second = found.runs
    assert first.equal and not second.equal
    cells = found.run_cells(second)
    assert cells[0, [0, 299, 300]].tolist() == [4, 303, 303]
    assert cells[1, [0, 300]].tolist() == [304, 604]


def test_the_plan_counts_the_prefix():
    lengths = [100] * 2 + [110]
    prefix = torch.zeros(1, 2, 500, 4)
    assert len(Sequences(lengths, "stream", CPU, prefix=prefix).runs) == 2
    assert len(Sequences(lengths, "stream", CPU).runs) == 1
