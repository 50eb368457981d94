"""What the loop tells its listeners. Steps count from 1; times are wall-clock seconds.

Started → (MemoryShort | Step | Skipped | Evaluated | Checkpointed)* → Finished | Interrupted
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

__all__ = [
    "Callback",
    "Checkpointed",
    "Evaluated",
    "Event",
    "Finished",
    "Interrupted",
    "MicroBatchReduced",
    "Started",
    "StepCompleted",
    "StepSkipped",
]


@dataclass(frozen=True)
class Event:
    """Base of all events."""

    step: int


@dataclass(frozen=True)
class Started(Event):
    """Training starts (or goes on) after ``step`` steps."""

    total_steps: int
    steps_per_epoch: int
    rows: int


@dataclass(frozen=True)
class MicroBatchReduced(Event):
    """The accelerator ran out of memory: from here on ``micro_batch`` rows a forward pass.

    The rows of a step, and their gradients, stay as they were.
    """

    micro_batch: int


@dataclass(frozen=True)
class StepCompleted(Event):
    """One optimizer step was taken.

    ``loss`` is the task's mean over the step's terms; ``penalty`` what the parts added to it;
    ``metrics`` are the parts' own scalars; ``rows`` and ``tokens`` went into this step.
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
    """A non-finite loss or gradient: nothing was applied. ``rows`` are those of the batch."""

    reason: str
    rows: tuple[int, ...]


@dataclass(frozen=True)
class Evaluated(Event):
    """The whole split was scored. ``eligible``: the parts say that this model may be chosen."""

    epoch: float
    split: str
    metrics: dict[str, float]
    metric: str
    best: bool
    eligible: bool
    seconds: float


@dataclass(frozen=True)
class Checkpointed(Event):
    """A checkpoint is whole on disk."""

    path: Path


@dataclass(frozen=True)
class Finished(Event):
    """The loop ended by itself: "done", or "patience" where it stopped early."""

    reason: str


@dataclass(frozen=True)
class Interrupted(Event):
    """A signal ended the loop after a checkpoint."""

    signum: int


Callback = Callable[[Event], None]
