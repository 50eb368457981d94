"""Kept gradients of embeddings against those that autograd makes."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from bertft.models.embedding_gradient import keep_embedding_gradients


class Model(nn.Module):
    def __init__(self, tied: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(50, 4, padding_idx=1)
        self.decoder = nn.Linear(4, 50, bias=False)
        if tied:
            self.decoder.weight = self.words.weight

    def forward(self, ids):
        return self.decoder(self.words(ids))


def backward(model, seed, scale=1.0):
    torch.manual_seed(seed)
    ids = torch.randint(0, 12, (2, 9)) + 3 * seed  # some tokens occur twice, some are padding
    outputs = model(ids)
    (outputs * torch.randn_like(outputs) * scale).sum().backward()


def pair(**changes):
    model = Model(**changes).double()
    kept = copy.deepcopy(model)
    keep_embedding_gradients(kept)
    return model, kept


def assert_same(model, kept):
    for parameter, expected in zip(kept.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, expected.grad, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("tied", [False, True])
def test_gradients_of_steps_and_accumulation(tied):
    models = pair(tied=tied)
    for step in range(4):
        for micro_batch in range(step % 2 + 1):
            for model in models:
                backward(model, step + micro_batch)
        assert_same(*models)
        for model in models:
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.sub_(0.1 * parameter.grad)
            model.zero_grad(set_to_none=True)


def test_the_memory_is_kept_and_only_there():
    model, kept = pair()
    backward(kept, 0)
    grad, address = kept.words.weight.grad, kept.words.weight.grad.data_ptr()
    kept.zero_grad(set_to_none=True)
    backward(kept, 3)
    assert kept.words.weight.grad is grad and grad.data_ptr() == address
    backward(model, 3)
    assert_same(model, kept)
    assert type(pair(tied=True)[1].words) is nn.Embedding, "a tied gradient is dense"
    model.words.weight.requires_grad_(False)
    keep_embedding_gradients(model)
    assert type(model.words) is nn.Embedding


def test_only_the_rows_of_the_previous_step_are_cleared():
    _, kept = pair()
    for seed, marked_row in ((0, 45), (1, 46), (0, 47)):  # rows without a token
        backward(kept, seed)
        kept.words.weight.grad.mul_(0.5)  # as clipping does
        kept.words.weight.grad[marked_row] = 7.0
        kept.zero_grad(set_to_none=True)
    backward(kept, 1)
    assert (kept.words.weight.grad[45:48] > 0).all(), "clearing all rows takes milliseconds"


def test_a_dense_term_in_the_same_graph():
    models = pair()
    for step in range(3):
        for model in models:
            ids = torch.tensor([[step, 5, 5]])
            (model(ids).square().sum() + model.words.weight.square().sum()).backward()
        assert_same(*models)
        for model in models:
            model.zero_grad(set_to_none=True)
            backward(model, step)
        assert_same(*models)
        for model in models:
            model.zero_grad(set_to_none=True)


def test_a_step_that_was_not_finite_leaves_nothing():
    """As after a skipped step, or a pass that ran out of memory."""
    model, kept = pair()
    backward(kept, 1, scale=float("nan"))
    assert kept.words.weight.grad.isnan().any()
    kept.zero_grad(set_to_none=True)
    for each in (model, kept):
        backward(each, 2)
    assert_same(model, kept)


def test_gradients_that_are_set_to_zero_or_replaced():
    model, kept = pair()
    for each in (model, kept):
        backward(each, 0)
        each.zero_grad(set_to_none=False)
        backward(each, 1)
        each.words.weight.grad = torch.ones_like(each.words.weight)
        backward(each, 2)
    assert_same(model, kept)
    for each in (model, kept):
        each.zero_grad(set_to_none=True)
        backward(each, 3)
    assert_same(model, kept)


def test_a_dense_term_of_the_loss():
    """A penalty reaches every row, before or after the rows of the batch."""
    models = pair()
    for step in range(4):
        for model in models:
            for penalty_comes_first in (step % 2 == 0, step % 2 == 1):
                if penalty_comes_first:
                    model.words.weight.square().sum().backward()
                else:
                    backward(model, step)
        assert_same(*models)
        for model in models:
            model.zero_grad(set_to_none=True)
    for model in models:
        backward(model, 5)
    assert_same(*models)


def test_loaded_weights_and_copies():
    model, kept = pair()
    backward(kept, 0)
    kept.zero_grad(set_to_none=True)
    kept.load_state_dict(model.state_dict())
    copied = copy.deepcopy(kept)
    for each in (model, kept, copied):
        backward(each, 4)
    assert_same(model, kept)
    assert_same(model, copied)
    assert copied.words.weight.grad is not kept.words.weight.grad
    with torch.no_grad():
        assert torch.equal(kept(torch.tensor([[2, 1]])), model(torch.tensor([[2, 1]])))
