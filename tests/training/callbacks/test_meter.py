from __future__ import annotations

import mmap

import pytest

from bertft.training.callbacks.meter import ProgressMeter
from bertft.training.events import Finished, Retried, Started
from bertft.training.memory import memory_in_use


@pytest.fixture
def meter(clock):
    meter = ProgressMeter(clock=clock, memory=lambda: 1_234_567_890)
    meter(Started(0, 100, 10, 320))
    return meter


def shown_items(meter):
    return [str(item) for item in meter.items()]


def test_before_the_first_step(meter):
    assert shown_items(meter) == ["epoch 0.00", "1.2 GB memory"]
    assert meter.seconds_left is None


def test_all_there_is_to_show(meter, a_step, an_evaluation):
    meter(a_step(1))
    meter(an_evaluation(1, 0.9))
    meter(a_step(2))
    meter(an_evaluation(2, 0.8, best=False))
    assert shown_items(meter) == [
        "epoch 0.20", "loss 0.7436", "accuracy 0.8000", "best 0.9000", "lr 1.0e-4–1.0e-3",
        "64 rows/s", "1.8k tokens/s", "1.2 GB memory", "budget 288", "mean rank 8.2",
    ]  # fmt: skip


def test_the_smoothed_loss_is_a_weighted_mean(meter, a_step):
    for number, loss in enumerate((4.0, 2.0, 1.0), start=1):
        meter(a_step(number, loss=loss))
    weights = (0.95**2, 0.95, 1.0)
    expected = (4 * weights[0] + 2 * weights[1] + weights[2]) / sum(weights)
    assert shown_items(meter)[1] == f"loss {expected:.4f}"


def test_time_left_includes_work_outside_of_the_steps(meter, clock, a_step):
    for number in range(1, 11):
        clock.now += 3.0  # of which the step itself takes two
        meter(a_step(number, pace=2.0))
    assert meter.seconds_left == pytest.approx(90 * 3.0)
    clock.now += 10.0
    assert meter.seconds_left == pytest.approx(260.0)
    clock.now += 1000.0
    assert meter.seconds_left == 0.0


def test_a_resumed_run_brings_its_best_along_and_its_own_speed(clock, a_step):
    meter = ProgressMeter(best=0.7, clock=clock, memory=lambda: None)
    meter(Started(50, 100, 10, 320))
    clock.now += 2.0
    meter(a_step(51, pace=2.0))
    assert "best 0.7000" in shown_items(meter)
    assert meter.seconds_left == pytest.approx(49 * 2.0)
    assert not any("memory" in item for item in shown_items(meter))


def test_memory_grows_with_what_is_held():
    before = memory_in_use()
    with mmap.mmap(-1, 80_000_000) as block:  # not memory that Python or torch keep for reuse
        for offset in range(0, len(block), mmap.PAGESIZE):
            block[offset] = 1
        assert memory_in_use() - before > 60_000_000


def test_the_time_of_a_run_that_stops_early(meter, a_step):
    meter(Started(0, 100, 10, 320))
    assert meter.time_text.endswith("elapsed")
    meter(a_step(1))
    assert meter.time_text.endswith("left")
    meter(Finished(1, "patience"))
    assert meter.time_text.endswith("total")


def test_after_a_retry_the_step_and_the_best_are_those_of_the_checkpoint(
    meter, a_step, an_evaluation
):
    for number in range(1, 21):
        meter(a_step(number))
    meter(an_evaluation(20, 0.9))
    meter(Retried(8, 20, 0.5, 0.6))
    assert meter.step == 8 and "best 0.6000" in shown_items(meter)
    meter(Retried(0, 20, 0.5, None))
    assert meter.step == 0 and not any(item.startswith("best") for item in shown_items(meter))
