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
    optimized = copy.deepcopy(model)
    keep_embedding_gradients(optimized)
    return model, optimized


def assert_same(model, optimized):
    for parameter, expected in zip(optimized.parameters(), model.parameters(), strict=True):
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
    model, optimized = pair()
    backward(optimized, 0)
    grad, address = optimized.words.weight.grad, optimized.words.weight.grad.data_ptr()
    optimized.zero_grad(set_to_none=True)
    backward(optimized, 3)
    assert optimized.words.weight.grad is grad and grad.data_ptr() == address
    backward(model, 3)
    assert_same(model, optimized)
    assert type(pair(tied=True)[1].words) is nn.Embedding, "a tied gradient is dense"
    model.words.weight.requires_grad_(False)
    keep_embedding_gradients(model)
    assert type(model.words) is nn.Embedding


def test_only_the_rows_of_the_previous_step_are_cleared():
    _, optimized = pair()
    for seed, marked_row in ((0, 45), (1, 46), (0, 47)):  # rows without a token
        backward(optimized, seed)
        optimized.words.weight.grad.mul_(0.5)  # as clipping does
        optimized.words.weight.grad[marked_row] = 7.0
        optimized.zero_grad(set_to_none=True)
    backward(optimized, 1)
    assert (optimized.words.weight.grad[45:48] > 0).all(), "clearing all rows takes milliseconds"


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
    model, optimized = pair()
    backward(optimized, 1, scale=float("nan"))
    assert optimized.words.weight.grad.isnan().any()
    optimized.zero_grad(set_to_none=True)
    for network in (model, optimized):
        backward(network, 2)
    assert_same(model, optimized)


def test_gradients_that_are_set_to_zero_or_replaced():
    model, optimized = pair()
    for network in (model, optimized):
        backward(network, 0)
        network.zero_grad(set_to_none=False)
        backward(network, 1)
        network.words.weight.grad = torch.ones_like(network.words.weight)
        backward(network, 2)
    assert_same(model, optimized)
    for network in (model, optimized):
        network.zero_grad(set_to_none=True)
        backward(network, 3)
    assert_same(model, optimized)


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
    model, optimized = pair()
    backward(optimized, 0)
    optimized.zero_grad(set_to_none=True)
    optimized.load_state_dict(model.state_dict())
    copied = copy.deepcopy(optimized)
    for network in (model, optimized, copied):
        backward(network, 4)
    assert_same(model, optimized)
    assert_same(model, copied)
    assert copied.words.weight.grad is not optimized.words.weight.grad
    with torch.no_grad():
        assert torch.equal(optimized(torch.tensor([[2, 1]])), model(torch.tensor([[2, 1]])))
