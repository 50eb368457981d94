"""Rank that adapts, in real training steps of a small model."""

from __future__ import annotations

import pytest
import torch

TARGETS = ["query", "value", "ffn_in"]  # 6 updates of two shapes


def svd(part, **changes):
    return part(kind="svd_lora", targets=TARGETS, rank=2, interval=3, rate=0.02, **changes)


def started(bert, part, run, total=20, **changes):
    model = bert()
    torch.manual_seed(1)
    made = svd(part, **changes)
    made.attach(model)
    return run(model, made, total)


def live(model) -> list[int]:
    return [int((each != 0).sum()) for name, each in model.named_parameters() if name[-2:] == ".E"]


def test_budget_by_budget(bert, part, run):
    """T = 20: pruned after steps 3, 6 and 9, to 12 + 6·(1 − (t − 2) / 10)³; frozen from 12 on."""
    training = started(bert, part, run)
    budgets, counts, ready = [], [], []
    for _ in range(20):
        training.take(1)
        budgets.append(training.part.metrics()["budget"])
        counts.append(sum(live(training.model)))
        ready.append(training.part.is_eligible(training.step, 20))
    assert budgets == [18] * 2 + [16] * 3 + [13] * 3 + [12] * 12
    assert counts[:2] == [18, 18]
    assert [counts[step - 1] for step in (3, 6, 9)] == [16, 13, 12]
    assert counts[3] == counts[9] == 18, "pruned triplets may grow back before the mask freezes"
    assert counts[11:] == [12] * 9
    assert ready == [False] * 11 + [True] * 9
    assert training.part.metrics()["mean_rank"] == 2.0
    assert training.part.allocator.mask.sum(1).tolist() == live(training.model)
    assert sum(live(training.model)) == 12


@pytest.mark.parametrize("total", [1, 2, 3, 4, 5, 7, 11, 13])
def test_short_runs_end_at_the_budget(bert, part, run, total):
    training = started(bert, part, run, total).take(total)
    assert sum(live(training.model)) == 12
    assert training.part.is_eligible(total, total)
    counts = training.part.parameter_counts(training.model)
    shape = {True: 48, False: 64}  # in + out of query and value, of ffn_in
    ranks = zip(training.part.allocator.paths, live(training.model), strict=True)
    expected = sum(rank * (shape["ffn_in" not in path] + 1) for path, rank in ranks)
    assert counts["kept"] == expected
    assert counts["exported"] == expected - 12


def test_without_adaptation_every_triplet_stays(bert, part, run):
    training = started(bert, part, run, 6, adapt=False).take(6)
    assert live(training.model) == [2] * 6
    assert training.part.is_eligible(1, 6)
    assert training.part.state_dict() == {}
    assert "budget" not in training.part.metrics()


def test_a_mask_is_the_top_of_the_importance(bert, part, run):
    training = started(bert, part, run).take(5)
    allocator = training.part.allocator
    training.take(1)
    scores = allocator.importance.triplet_scores()
    remaining, cut = scores[allocator.mask], scores[~allocator.mask]
    assert remaining.min() >= cut.max() and len(remaining) == 13


def test_moments_of_pruned_triplets_are_cleared_once_frozen(bert, part, run):
    training = started(bert, part, run).take(11)
    states = training.optimizer.state
    values = training.part.allocator.singular_values
    assert all((states[each]["exp_avg_sq"] > 0).all() for each in values), "alive till then"
    training.take(1)
    for each, row in zip(values, training.part.allocator.mask, strict=True):
        for moment in ("exp_avg", "exp_avg_sq"):
            assert (states[each][moment][~row] == 0).all()
            assert (states[each][moment][row] != 0).all()
        assert states[each]["step"] == 12
    mask = training.part.allocator.mask.clone()
    training.take(8)
    assert all(
        (states[each]["exp_avg_sq"][~row] == 0).all()
        for each, row in zip(values, mask, strict=True)
    )
    assert torch.equal(training.part.allocator.mask, mask)
    assert torch.equal(torch.stack([each != 0 for each in values]), mask)


def test_pruned_triplets_do_not_count_in_the_gradient_norm(bert, part, run, gradients):
    training = started(bert, part, run).take(12)
    actual = gradients(training.model)
    values = [gradient for name, gradient in actual.items() if name.endswith(".E")]
    assert torch.equal(torch.stack(values) != 0, training.part.allocator.mask)
    other = started(bert, part, run)
    other.part.load_state_dict(training.part.state_dict())
    actual = gradients(other.model)
    values = [gradient for name, gradient in actual.items() if name.endswith(".E")]
    assert torch.equal(torch.stack(values) != 0, training.part.allocator.mask)


def test_a_skipped_step_delays_the_freeze_but_not_its_budget(bert, part, run):
    """A step that is not applied calls no hook."""
    training = started(bert, part, run).take(11)
    training.step = 13  # 12 and 13 were not finite
    assert not training.part.is_eligible(13, 20)
    training.take(1)
    assert training.part.is_eligible(14, 20) and sum(live(training.model)) == 12


def test_a_longer_run_keeps_a_final_budget(bert, part, run):
    training = started(bert, part, run).take(20)
    training.total = 60
    training.take(5)
    assert training.part.is_eligible(25, 60) and sum(live(training.model)) == 12


@pytest.mark.parametrize("cut", [1, 4, 7, 11, 12, 15])
def test_resumed_in_mid_budget_equals_the_uninterrupted_run(bert, part, run, cut, tmp_path):
    whole = started(bert, part, run).take(20)
    first = started(bert, part, run).take(cut)
    torch.save(
        [first.model.state_dict(), first.optimizer.state_dict(), first.part.state_dict()],
        tmp_path / "state",
    )
    resumed = started(bert, part, run)
    weights, optimizer, state = torch.load(tmp_path / "state")
    resumed.model.load_state_dict(weights)
    resumed.optimizer.load_state_dict(optimizer)
    resumed.part.load_state_dict(state)
    resumed.step = cut
    resumed.take(20 - cut)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], tensor), name
    for name, value in whole.part.state_dict().items():
        actual = resumed.part.state_dict()[name]
        assert torch.equal(actual, value) if isinstance(value, torch.Tensor) else actual == value


def test_a_state_is_a_copy(bert, part, run):
    training = started(bert, part, run).take(3)
    state = training.part.state_dict()
    before = {name: value.clone() for name, value in state.items() if hasattr(value, "clone")}
    training.take(3)
    assert all(torch.equal(state[name], value) for name, value in before.items())
    other = started(bert, part, run)
    other.part.load_state_dict(state)
    other.take(3)
    assert all(torch.equal(state[name], value) for name, value in before.items())


def test_a_foreign_state_is_refused(bert, part, run):
    training = started(bert, part, run)
    state = training.part.state_dict()
    with pytest.raises(ValueError, match="does not fit its modules"):
        training.part.load_state_dict({**state, "mean/elsewhere": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"the mask is \[6, 5\], not \[6, 3\]"):
        started(bert, part, run).part.load_state_dict({**state, "mask": torch.ones(6, 5)})
    plain = part()
    plain.load_state_dict({})
    with pytest.raises(ValueError, match="low_rank has no state"):
        plain.load_state_dict(state)
