"""Losses on inner states, and their gradients, against loops over sequences in fp64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from bertft.distill.losses import attention_loss, hidden_loss, relation_loss
from bertft.models.forward_state import HeadStates
from bertft.models.sequence_layout import SequenceLayout

LENGTHS = [80, 2, 7, 7]
TOTAL = sum(LENGTHS)


@pytest.fixture
def sequences():
    made = SequenceLayout(LENGTHS, "unpadded", torch.device("cpu"))
    assert {run.equal_lengths for run in made.chunks} == {True, False}
    return made


def drawn(seed, *shape):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()


def heads(seed, count, width, window=None):
    q, k, v = (drawn(seed + n, TOTAL, count, width) for n in range(3))
    return HeadStates(q, k, v, width**-0.5, window)


def pieces(tokens):
    return torch.split(tokens, LENGTHS)


def same_gradients(one, other, *inputs):
    for tensor in inputs:
        mine, theirs = (torch.autograd.grad(x, tensor, retain_graph=True)[0] for x in (one, other))
        assert mine.abs().max() > 0
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("widths", [(6, 6), (4, 6)])
def test_hidden(widths):
    student, teacher = drawn(1, TOTAL, widths[0]), drawn(2, TOTAL, widths[1])
    project = None if widths[0] == widths[1] else nn.Linear(*widths, bias=False).double()
    loss = hidden_loss(student, teacher, project)
    weight = torch.eye(6, dtype=torch.float64) if project is None else project.weight
    wanted = sum(
        (weight @ s - t.detach()).square().sum() / 6 for s, t in zip(student, teacher, strict=True)
    )
    torch.testing.assert_close(loss, wanted, rtol=1e-12, atol=0)
    same_gradients(loss, wanted, student, *([] if project is None else [weight]))
    assert torch.autograd.grad(loss, teacher, allow_unused=True) == (None,)


@pytest.mark.parametrize("windows", [(None, None), (None, 4), (6, 3)])
def test_attention(sequences, windows):
    student, teacher = heads(1, 2, 4, windows[0]), heads(9, 2, 8, windows[1])
    loss = attention_loss(student, teacher, sequences)
    near = min((window for window in windows if window), default=TOTAL)
    wanted = 0.0
    for qs, ks, qt, kt in zip(
        *map(pieces, (student.query, student.key, teacher.query, teacher.key)), strict=True
    ):
        for i in range(len(qs)):
            for j in range(max(0, i - near + 1), min(len(qs), i + near)):
                mine = (qs[i] * ks[j]).sum(-1) / math.sqrt(4)
                theirs = (qt[i] * kt[j]).sum(-1) / math.sqrt(8)
                wanted = wanted + (mine - theirs.detach()).square().mean()
    torch.testing.assert_close(loss, wanted, rtol=1e-12, atol=0)
    same_gradients(loss, wanted, student.query, student.key)
    unused = torch.autograd.grad(loss, [teacher.query, teacher.key], allow_unused=True)
    assert unused == (None, None)


def test_relation_between_models_of_other_widths_and_heads(sequences):
    """The student has 2 heads of 6, the teacher 4 of 6: 3 relation heads of 4 and of 8."""
    student, teacher = heads(1, 2, 6), heads(9, 4, 6)
    loss = relation_loss(student, teacher, 3, sequences)
    wanted = 0.0
    for name in ("query", "key", "value"):
        mine, theirs = (getattr(states, name).flatten(1) for states in (student, teacher))
        for s, t in zip(pieces(mine), pieces(theirs), strict=True):
            for head in range(3):
                x, y = s[:, 4 * head : 4 * head + 4], t[:, 8 * head : 8 * head + 8].detach()
                learnt = (x @ x.T / math.sqrt(4)).softmax(-1)
                taught = (y @ y.T / math.sqrt(8)).softmax(-1)
                wanted = wanted + (taught * (taught / learnt).log()).sum() / 9
    torch.testing.assert_close(loss, wanted, rtol=1e-10, atol=0)
    same_gradients(loss, wanted, student.query, student.key, student.value)
    same = relation_loss(student, student, 3, sequences)
    assert float(same.detach()) == pytest.approx(0.0, abs=1e-12)


def test_half_precision_is_summed_in_single(sequences):
    student, teacher = heads(1, 2, 4), heads(9, 2, 4)
    half = HeadStates(
        *(x.bfloat16() for x in (student.query, student.key, student.value)), 0.5, None
    )
    assert attention_loss(half, teacher, sequences).dtype == torch.float64
    assert relation_loss(half, half, 2, sequences).dtype == torch.float32
