"""Against the formulas written out, weight by weight."""

from __future__ import annotations

import pytest
import torch

from bertft.methods.low_rank.adalora import ImportanceTracker, top_mask
from bertft.methods.low_rank.svd_lora import SVDLoRA


def modules(count: int = 3, rank: int = 4) -> list[SVDLoRA]:
    torch.manual_seed(0)
    shapes = [(7, 9), (9, 7), (7, 9)][:count]
    made = [SVDLoRA(torch.zeros(shape, dtype=torch.float64), rank, 1.0) for shape in shapes]
    for module in made:
        with torch.no_grad():
            module.E.normal_()
    return made


def plain_scores(history, beta1, beta2) -> torch.Tensor:
    """``history``: per step, per module, letter → (weight, gradient). S [modules, r], in loops."""
    rows = []
    for number in range(len(history[0])):
        smoothed = {}
        for letter in "ABE":
            mean = torch.zeros_like(history[0][number][letter][0])
            spread = torch.zeros_like(mean)
            for step in history:
                weight, gradient = step[number][letter]
                sensitivity = (weight * gradient).abs()
                mean = beta1 * mean + (1 - beta1) * sensitivity
                spread = beta2 * spread + (1 - beta2) * (sensitivity - mean).abs()
            smoothed[letter] = mean * spread
        a, b, e = (smoothed[letter] for letter in "ABE")
        rows.append(
            [
                e[i] + sum(a[i, j] for j in range(a.shape[1])) / a.shape[1]
                + sum(b[j, i] for j in range(b.shape[0])) / b.shape[0]
                for i in range(len(e))
            ]
        )  # fmt: skip
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize(("beta1", "beta2"), [(0.85, 0.85), (0.5, 0.9), (0.0, 0.0)])
def test_the_score_of_every_triplet(beta1, beta2):
    updates = modules()
    importance = ImportanceTracker(updates, beta1, beta2)
    history = []
    for _ in range(4):
        step = []
        for update in updates:
            for parameter in update.parameters():
                parameter.grad = torch.randn_like(parameter)
            step.append(
                {
                    letter: (getattr(update, letter).detach().clone(), getattr(update, letter).grad)
                    for letter in "ABE"
                }
            )
        importance.update()
        with torch.no_grad():
            for update in updates:
                for parameter in update.parameters():
                    parameter -= 0.1 * parameter.grad
        history.append(step)
    expected = plain_scores(history, beta1, beta2)
    assert expected.shape == (3, 4)
    torch.testing.assert_close(importance.triplet_scores(), expected, rtol=1e-12, atol=0)


def test_a_weight_without_gradient_is_left_alone():
    updates = modules(2)
    importance = ImportanceTracker(updates, 0.85, 0.85)
    importance.update()
    assert importance.triplet_scores().abs().sum() == 0
    for parameter in updates[1].parameters():
        parameter.grad = torch.ones_like(parameter)
    importance.update()
    first, second = importance.triplet_scores()
    assert first.abs().sum() == 0 and (second > 0).all()


def test_top_is_exact():
    scores = torch.tensor([[3.0, 1.0, 2.0], [0.5, 9.0, 2.5]])
    masks = [top_mask(scores, budget).int().tolist() for budget in range(7)]
    assert masks == [
        [[0, 0, 0], [0, 0, 0]],
        [[0, 0, 0], [0, 1, 0]],
        [[1, 0, 0], [0, 1, 0]],
        [[1, 0, 0], [0, 1, 1]],
        [[1, 0, 1], [0, 1, 1]],
        [[1, 1, 1], [0, 1, 1]],
        [[1, 1, 1], [1, 1, 1]],
    ]


@pytest.mark.parametrize("budget", range(13))
def test_ties_neither_over_prune_nor_fall_on_one_module(budget):
    mask = top_mask(torch.zeros(3, 4), budget)
    assert int(mask.sum()) == budget
    ranks = mask.sum(1)
    assert ranks.max() - ranks.min() <= 1
    half = torch.tensor([[1.0, 1.0, 0.0, 1.0], [1.0, 0.0, 1.0, 1.0], [1.0, 1.0, 1.0, 2.0]])
    assert int(top_mask(half, budget).sum()) == budget
    if budget:
        assert top_mask(half, budget)[2, 3]
