from __future__ import annotations

import pytest

from bertft.methods.low_rank.adalora import BudgetSchedule


def test_the_schedule_step_by_step():
    budget = BudgetSchedule(initial=36, final=24, begin_fraction=0.1, end_fraction=0.4)
    assert (budget.pruning_start(20), budget.freeze_step(20)) == (2, 12)
    # 24 + 12·(1 − (t − 2)/10)³, cut to a whole number
    assert [budget(step, 20) for step in range(1, 15)] == [
        36, 36, 32, 30, 28, 26, 25, 24, 24, 24, 24, 24, 24, 24,
    ]  # fmt: skip


@pytest.mark.parametrize("total", [*range(1, 30), 1000])
@pytest.mark.parametrize(("begin", "end"), [(0.0, 0.4), (0.1, 0.4), (0.5, 0.49), (0.0, 0.99)])
def test_it_only_falls_and_ends_exactly(total, begin, end):
    budget = BudgetSchedule(288, 192, begin, end)
    values = [budget(step, total) for step in range(1, total + 1)]
    assert values == sorted(values, reverse=True)
    assert all(192 <= value <= 288 for value in values)
    assert 1 <= budget.freeze_step(total) <= total
    assert set(values[budget.freeze_step(total) - 1 :]) == {192}
    assert set(values[: min(budget.pruning_start(total), budget.freeze_step(total) - 1)]) <= {288}
