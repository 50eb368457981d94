"""The events that the training loop yields to its callbacks.

    Started → (MicroBatchReduced | StepCompleted | StepSkipped | Evaluated | Collapsed | Retried
               | Checkpointed)*
            → Finished | Interrupted | Stopped

Steps count from 1; times are wall-clock seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

__all__ = [
    "Callback",
    "Checkpointed",
    "Collapsed",
    "Evaluated",
    "Event",
    "Finished",
    "Interrupted",
    "MicroBatchReduced",
    "Retried",
    "Started",
    "StepCompleted",
    "StepSkipped",
    "Stopped",
]


@dataclass(frozen=True)
class Event:
    """Base of all events."""

    step: int


@dataclass(frozen=True)
class Started(Event):
    """Training starts, or resumes after ``step`` steps."""

    total_steps: int
    steps_per_epoch: int
    rows: int


@dataclass(frozen=True)
class MicroBatchReduced(Event):
    """The device ran out of memory; forward passes now have ``micro_batch`` rows.

    The rows per step and the gradients stay the same.
    """

    micro_batch: int


@dataclass(frozen=True)
class StepCompleted(Event):
    """One optimizer step was taken.

    ``loss`` is the mean over the terms of the step, without ``penalty``, the sum of the components'
    extra losses. ``metrics`` has the metrics of the components. ``rows`` and ``tokens`` count this
    step alone.
    """

    epoch: float
    loss: float
    penalty: float
    learning_rates: dict[str, float]
    gradient_norm: float
    rows: int
    tokens: int
    seconds: float
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class StepSkipped(Event):
    """A step was not applied because its loss or gradient was not finite.

    ``rows``: row numbers of the step, from 0, ascending; ``locations``: where each of them is in
    the data, as in ``reviews.csv:15``.
    """

    reason: str
    rows: tuple[int, ...]
    locations: tuple[str, ...]


@dataclass(frozen=True)
class Evaluated(Event):
    """A split was evaluated.

    ``ineligible_reason``: why a component does not allow this model to become the best; empty if
    all do (``eligible``). ``input_free_loss``: the metric ``loss`` of the best prediction that
    ignores the input; None if it is not known.
    """

    epoch: float
    split: str
    metrics: dict[str, float]
    metric: str
    best: bool
    eligible: bool
    seconds: float
    ineligible_reason: str = ""
    input_free_loss: float | None = None


@dataclass(frozen=True)
class Collapsed(Event):
    """The predictions do not depend on the input any more (``bertft.training.collapse``).

    ``reason`` is what was measured, ``advice`` what to change. ``loss`` and ``input_free_loss`` are
    means over the last steps; None if they are not known.
    """

    reason: str
    advice: str
    loss: float | None
    input_free_loss: float | None


@dataclass(frozen=True)
class Retried(Event):
    """Training returned to the checkpoint of ``step`` (0: the start) with lower learning rates.

    The steps after it up to ``collapsed_step`` are taken again. ``rate_factor`` is the factor on
    the configured rates, ``best`` the value of the best evaluation up to ``step``.
    """

    collapsed_step: int
    rate_factor: float
    best: float | None


@dataclass(frozen=True)
class Checkpointed(Event):
    """A checkpoint was written."""

    path: Path


@dataclass(frozen=True)
class Finished(Event):
    """Training ended: ``reason`` is "done", or "patience" if it stopped early."""

    reason: str


@dataclass(frozen=True)
class Interrupted(Event):
    """A signal ended training after a checkpoint."""

    signum: int


@dataclass(frozen=True)
class Stopped(Event):
    """Training stopped at ``trainer.stop_at`` after a checkpoint, before ``total_steps``."""

    total_steps: int


Callback = Callable[[Event], None]
