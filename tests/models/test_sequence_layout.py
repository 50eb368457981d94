"""Where the tokens of a batch lie in each layout."""

from __future__ import annotations

import torch

from bertft.models.sequence_layout import SequenceLayout

CPU = torch.device("cpu")


def test_places_of_tokens():
    actual = SequenceLayout([3, 1, 4], "unpadded", CPU)
    assert actual.positions().tolist() == [0, 1, 2, 0, 0, 1, 2, 3]
    assert actual.cu_seqlens().tolist() == [0, 3, 4, 8] and actual.cu_seqlens().dtype == torch.int32
    assert actual.cls_indices().tolist() == [0, 3, 4]
    assert actual.content_indices().tolist() == list(range(8))
    assert actual.max_length == 4 and actual.shape == (1, 8)
    assert actual.token_indices().tolist() == list(range(8))
    assert actual.sequence_ids().tolist() == [[0, 0, 0, 1, 2, 2, 2, 2]]


def test_padded_gives_each_sequence_a_row():
    actual = SequenceLayout([3, 1, 4], "padded", CPU, prompt_length=1)
    assert actual.shape == (3, 4)
    assert actual.token_indices().tolist() == [0, 1, 2, 4, 8, 9, 10, 11]
    assert actual.cls_indices().tolist() == [1, 5, 9]
    assert actual.token_mask().int().tolist() == [[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]]


def test_rows_put_several_sequences_into_one():
    actual = SequenceLayout([20, 60, 30], "packed", CPU, prompt_length=2)
    assert actual.shape == (2, 64)
    assert actual.cls_indices().tolist() == [64 + 30 + 2, 2, 64 + 2]
    owner = actual.sequence_ids()
    assert owner[0].tolist() == [1] * 60 + [-1] * 4
    assert owner[1].tolist() == [2] * 30 + [0] * 20 + [-1] * 14
    assert owner.flatten()[actual.token_indices()].tolist() == [0] * 20 + [1] * 60 + [2] * 30
    assert actual.token_mask().sum() == 110


def test_places_after_a_prompt():
    """Lengths count the prompt's two vectors."""
    actual = SequenceLayout([4, 3], "unpadded", CPU, prompt_length=2)
    assert actual.cls_indices().tolist() == [2, 6]
    assert actual.content_indices().tolist() == [2, 3, 6]
    assert actual.positions().tolist() == [0, 1, 2, 3, 0, 1, 2]


def test_cells_of_a_run_point_at_tokens_of_their_own_row():
    actual = SequenceLayout([2, 1, 3], "unpadded", CPU)
    [run] = actual.chunks
    assert actual.chunk_gather_indices(run).tolist() == [0, 1, 1, 2, 2, 2, 3, 4, 5]
    assert actual.chunk_token_slots(run).tolist() == [0, 1, 3, 6, 7, 8]
    assert actual.chunk_token_mask(run).int().tolist() == [[1, 1, 0], [1, 0, 0], [1, 1, 1]]


def test_cells_of_a_later_run():
    actual = SequenceLayout([2, 2, 300, 301], "unpadded", CPU)
    first, second = actual.chunks
    assert first.equal_lengths and not second.equal_lengths
    cells = actual.chunk_gather_indices(second)  # counted from the run's first token
    assert cells[[0, 299, 300]].tolist() == [0, 299, 299]
    assert cells[[301, 601]].tolist() == [300, 600]


def test_the_plan_counts_the_prefix():
    lengths = [100] * 2 + [110]
    assert len(SequenceLayout(lengths, "unpadded", CPU, prefix_length=500).chunks) == 2
    assert len(SequenceLayout(lengths, "unpadded", CPU).chunks) == 1
