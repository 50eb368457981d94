"""Rank that adapts, in real training steps of a small model."""

from __future__ import annotations

import pytest
import torch

TARGETS = ["query", "value", "ffn_in"]  # 6 updates of two shapes


def svd(build_component, **changes):
    return build_component(
        kind="svd_lora", targets=TARGETS, rank=2, interval=3, rate=0.02, **changes
    )


def started(bert, build_component, run, total=20, **changes):
    model = bert()
    torch.manual_seed(1)
    made = svd(build_component, **changes)
    made.attach(model)
    return run(model, made, total)


def live(model) -> list[int]:
    return [
        int((parameter != 0).sum())
        for name, parameter in model.named_parameters()
        if name[-2:] == ".E"
    ]


def test_budget_by_budget(bert, build_component, run):
    """T = 20: pruned after steps 3, 6 and 9, to 12 + 6·(1 − (t − 2) / 10)³; frozen from 12 on."""
    training = started(bert, build_component, run)
    budgets, counts, ready = [], [], []
    for _ in range(20):
        training.take(1)
        budgets.append(training.component.metrics()["budget"])
        counts.append(sum(live(training.model)))
        ready.append(training.component.is_eligible(training.step, 20))
    assert budgets == [18] * 2 + [16] * 3 + [13] * 3 + [12] * 12
    assert counts[:2] == [18, 18]
    assert [counts[step - 1] for step in (3, 6, 9)] == [16, 13, 12]
    assert counts[3] == counts[9] == 18, "pruned triplets may grow back before the mask freezes"
    assert counts[11:] == [12] * 9
    assert ready == [False] * 11 + [True] * 9
    assert training.component.metrics()["mean_rank"] == 2.0
    assert training.component.allocator.mask.sum(1).tolist() == live(training.model)
    assert sum(live(training.model)) == 12


@pytest.mark.parametrize("total", [1, 2, 3, 4, 5, 7, 11, 13])
def test_short_runs_end_at_the_budget(bert, build_component, run, total):
    training = started(bert, build_component, run, total).take(total)
    assert sum(live(training.model)) == 12
    assert training.component.is_eligible(total, total)
    counts = training.component.parameter_counts(training.model)
    shape = {True: 48, False: 64}  # in + out of query and value, of ffn_in
    ranks = zip(training.component.allocator.paths, live(training.model), strict=True)
    expected = sum(rank * (shape["ffn_in" not in path] + 1) for path, rank in ranks)
    assert counts["kept"] == expected
    assert counts["exported"] == expected - 12


def test_without_adaptation_every_triplet_stays(bert, build_component, run):
    training = started(bert, build_component, run, 6, adapt=False).take(6)
    assert live(training.model) == [2] * 6
    assert training.component.is_eligible(1, 6)
    assert training.component.state_dict() == {}
    assert "budget" not in training.component.metrics()


def test_a_mask_is_the_top_of_the_importance(bert, build_component, run):
    training = started(bert, build_component, run).take(5)
    allocator = training.component.allocator
    training.take(1)
    scores = allocator.importance.triplet_scores()
    remaining, cut = scores[allocator.mask], scores[~allocator.mask]
    assert remaining.min() >= cut.max() and len(remaining) == 13


def test_moments_of_pruned_triplets_are_cleared_once_frozen(bert, build_component, run):
    training = started(bert, build_component, run).take(11)
    states = training.optimizer.state
    values = training.component.allocator.singular_values
    assert all((states[parameter]["exp_avg_sq"] > 0).all() for parameter in values), (
        "alive till then"
    )
    training.take(1)
    for parameter, row in zip(values, training.component.allocator.mask, strict=True):
        for moment in ("exp_avg", "exp_avg_sq"):
            assert (states[parameter][moment][~row] == 0).all()
            assert (states[parameter][moment][row] != 0).all()
        assert states[parameter]["step"] == 12
    mask = training.component.allocator.mask.clone()
    training.take(8)
    assert all(
        (states[parameter]["exp_avg_sq"][~row] == 0).all()
        for parameter, row in zip(values, mask, strict=True)
    )
    assert torch.equal(training.component.allocator.mask, mask)
    assert torch.equal(torch.stack([parameter != 0 for parameter in values]), mask)


def test_pruned_triplets_do_not_count_in_the_gradient_norm(bert, build_component, run, gradients):
    training = started(bert, build_component, run).take(12)
    actual = gradients(training.model)
    values = [gradient for name, gradient in actual.items() if name.endswith(".E")]
    assert torch.equal(torch.stack(values) != 0, training.component.allocator.mask)
    other = started(bert, build_component, run)
    other.component.load_state_dict(training.component.state_dict())
    actual = gradients(other.model)
    values = [gradient for name, gradient in actual.items() if name.endswith(".E")]
    assert torch.equal(torch.stack(values) != 0, training.component.allocator.mask)


def test_a_skipped_step_delays_the_freeze_but_not_its_budget(bert, build_component, run):
    """A step that is not applied calls no hook."""
    training = started(bert, build_component, run).take(11)
    training.step = 13  # 12 and 13 were not finite
    assert not training.component.is_eligible(13, 20)
    training.take(1)
    assert training.component.is_eligible(14, 20) and sum(live(training.model)) == 12


def test_a_longer_run_keeps_a_final_budget(bert, build_component, run):
    training = started(bert, build_component, run).take(20)
    training.total = 60
    training.take(5)
    assert training.component.is_eligible(25, 60) and sum(live(training.model)) == 12


@pytest.mark.parametrize("cut", [1, 4, 7, 11, 12, 15])
def test_resumed_in_mid_budget_equals_the_uninterrupted_run(
    bert, build_component, run, cut, tmp_path
):
    whole = started(bert, build_component, run).take(20)
    first = started(bert, build_component, run).take(cut)
    torch.save(
        [first.model.state_dict(), first.optimizer.state_dict(), first.component.state_dict()],
        tmp_path / "state",
    )
    resumed = started(bert, build_component, run)
    weights, optimizer, state = torch.load(tmp_path / "state")
    resumed.model.load_state_dict(weights)
    resumed.optimizer.load_state_dict(optimizer)
    resumed.component.load_state_dict(state)
    resumed.step = cut
    resumed.take(20 - cut)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], tensor), name
    for name, value in whole.component.state_dict().items():
        actual = resumed.component.state_dict()[name]
        assert torch.equal(actual, value) if isinstance(value, torch.Tensor) else actual == value


def test_a_state_is_a_copy(bert, build_component, run):
    training = started(bert, build_component, run).take(3)
    state = training.component.state_dict()
    before = {name: value.clone() for name, value in state.items() if hasattr(value, "clone")}
    training.take(3)
    assert all(torch.equal(state[name], value) for name, value in before.items())
    other = started(bert, build_component, run)
    other.component.load_state_dict(state)
    other.take(3)
    assert all(torch.equal(state[name], value) for name, value in before.items())


def test_a_foreign_state_is_refused(bert, build_component, run):
    training = started(bert, build_component, run)
    state = training.component.state_dict()
    with pytest.raises(ValueError, match="does not fit its modules"):
        training.component.load_state_dict({**state, "mean/elsewhere": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"the mask is \[6, 5\], not \[6, 3\]"):
        started(bert, build_component, run).component.load_state_dict(
            {**state, "mask": torch.ones(6, 5)}
        )
    plain = build_component()
    plain.load_state_dict({})
    with pytest.raises(ValueError, match="low_rank has no state"):
        plain.load_state_dict(state)
