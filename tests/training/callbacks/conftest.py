"""A run of 25 steps as the loop tells it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bertft.training.events import (
    Checkpointed,
    Evaluated,
    Event,
    Finished,
    Started,
    StepCompleted,
    StepSkipped,
)

TOTAL = 25


def step(number: int, pace: float = 0.5, **changes) -> StepCompleted:
    facts = {
        "epoch": number / 10,
        "loss": 1.0 / number,
        "penalty": 0.01,
        "learning_rates": {"head": 1e-3, "low_rank": 1e-4},
        "gradient_norm": 0.3 * number,
        "rows": 32,
        "tokens": 900 + number,
        "seconds": pace,
        "metrics": {"budget": 288.0, "mean_rank": 8.2},
    }
    return StepCompleted(number, **{**facts, **changes})


def evaluated(number: int, value: float, pace: float = 0.5, **changes) -> Evaluated:
    facts = {
        "epoch": number / 10,
        "split": "validation",
        "metrics": {"accuracy": value, "f1_macro": value - 0.01, "loss": 1 - value},
        "metric": "accuracy",
        "best": True,
        "eligible": True,
        "seconds": pace,
    }
    return Evaluated(number, **{**facts, **changes})


def run(pace: float = 0.5, after: int = 0, folder: str = "/somewhere") -> list[Event]:
    """Events of the steps after ``after``; ``pace`` is seconds a step. Step 17 is not applied."""
    events: list[Event] = [Started(after, TOTAL, 10, 320)]
    for number in range(after + 1, TOTAL + 1):
        if number == 17:
            reason, locations = "loss or gradient was not finite", ("a.csv:3", "a.csv:5")
            events.append(StepSkipped(17, reason, (1, 3), locations))
        else:
            events.append(step(number, pace))
        if number in (8, 16, TOTAL):
            level = 0.69 if number == 8 else None
            events.append(evaluated(number, 0.5 + number / 100, pace, input_free_loss=level))
            events.append(Checkpointed(number, Path(folder) / f"step-{number}"))
    return [*events, Finished(TOTAL, "done")]


@pytest.fixture
def events() -> Callable[..., list[Event]]:
    return run


@pytest.fixture
def a_step() -> Callable[..., StepCompleted]:
    return step


@pytest.fixture
def an_evaluation() -> Callable[..., Evaluated]:
    return evaluated


class Clock:
    """A clock that advances only when a test advances it."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()
