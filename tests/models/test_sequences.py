"""Where the tokens of a batch lie in each layout."""

from __future__ import annotations

import torch

from bertft.models.sequences import Sequences

CPU = torch.device("cpu")


def test_places_of_tokens():
    found = Sequences([3, 1, 4], "unpadded", CPU)
    assert found.positions().tolist() == [0, 1, 2, 0, 0, 1, 2, 3]
    assert found.offsets().tolist() == [0, 3, 4, 8] and found.offsets().dtype == torch.int32
    assert found.starts().tolist() == [0, 3, 4]
    assert found.own().tolist() == list(range(8))
    assert found.longest == 4 and found.shape == (1, 8)
    assert found.cells().tolist() == list(range(8))
    assert found.owner().tolist() == [[0, 0, 0, 1, 2, 2, 2, 2]]


def test_padded_gives_each_sequence_a_row():
    found = Sequences([3, 1, 4], "padded", CPU, prompt=1)
    assert found.shape == (3, 4)
    assert found.cells().tolist() == [0, 1, 2, 4, 8, 9, 10, 11]
    assert found.starts().tolist() == [1, 5, 9]
    assert found.real().int().tolist() == [[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]]


def test_rows_put_several_sequences_into_one():
    found = Sequences([20, 60, 30], "packed", CPU, prompt=2)
    assert found.shape == (2, 64)
    assert found.starts().tolist() == [64 + 30 + 2, 2, 64 + 2]
    owner = found.owner()
    assert owner[0].tolist() == [1] * 60 + [-1] * 4
    assert owner[1].tolist() == [2] * 30 + [0] * 20 + [-1] * 14
    assert owner.flatten()[found.cells()].tolist() == [0] * 20 + [1] * 60 + [2] * 30
    assert found.real().sum() == 110


def test_places_after_a_prompt():
    """Lengths count the prompt's two vectors."""
    found = Sequences([4, 3], "unpadded", CPU, prompt=2)
    assert found.starts().tolist() == [2, 6]
    assert found.own().tolist() == [2, 3, 6]
    assert found.positions().tolist() == [0, 1, 2, 3, 0, 1, 2]


def test_cells_of_a_run_point_at_tokens_of_their_own_row():
    found = Sequences([2, 1, 3], "unpadded", CPU)
    [run] = found.runs
    assert found.run_cells(run).tolist() == [0, 1, 1, 2, 2, 2, 3, 4, 5]
    assert found.run_places(run).tolist() == [0, 1, 3, 6, 7, 8]
    assert found.run_real(run).int().tolist() == [[1, 1, 0], [1, 0, 0], [1, 1, 1]]


def test_cells_of_a_later_run():
    found = Sequences([2, 2, 300, 301], "unpadded", CPU)
    first, second = found.runs
    assert first.equal and not second.equal
    cells = found.run_cells(second)  # counted from the run's first token
    assert cells[[0, 299, 300]].tolist() == [0, 299, 299]
    assert cells[[301, 601]].tolist() == [300, 600]


def test_the_plan_counts_the_prefix():
    lengths = [100] * 2 + [110]
    prefix = torch.zeros(1, 2, 500, 4)
    assert len(Sequences(lengths, "unpadded", CPU, prefix=prefix).runs) == 2
    assert len(Sequences(lengths, "unpadded", CPU).runs) == 1
