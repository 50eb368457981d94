"""The progress of a run: counts, the best evaluation, and the state of the collapse monitor."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from bertft.training.collapse import check_state

__all__ = ["TrainerState"]


@dataclass
class TrainerState:
    """The progress of a run, which a resumed run needs in addition to the tensors.

    The names of the fields are keys in the checkpoints of earlier versions.
    """

    step: int = 0  # optimizer steps taken, skipped ones included
    best: float | None = None  # value of the task's metric
    best_step: int | None = None
    best_metrics: dict[str, float] | None = None
    stale: int = 0  # evaluations since the best one
    bad_in_a_row: int = 0  # consecutive steps with a non-finite loss or gradient
    skipped: int = 0  # steps that were not applied because of such a loss or gradient
    rescaled: int = 0  # steps that were not applied because the fp16 loss scale was too high
    halved: int = 0  # how often the micro-batch was halved because memory ran out
    not_finite: int = 0  # evaluations with non-finite outputs
    start: dict[str, float] | None = None  # parameter group → Σ |weight| before the first step
    gradient: float | None = None  # the largest gradient norm of an applied step, after clipping
    rows: int = 0
    tokens: int = 0
    loss_sum: float = 0.0  # over applied steps
    seconds: float = 0.0  # time in steps, without evaluations and checkpoints
    collapse: dict[str, Any] = field(default_factory=dict)  # of the ``CollapseMonitor``

    @property
    def applied_steps(self) -> int:
        """Steps that changed the weights."""
        return self.step - self.skipped - self.rescaled

    def state_dict(self) -> dict[str, Any]:
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned. Raises ValueError for any other content."""
        current = asdict(self)
        for name, value in state.items():
            is_plain = value is None or isinstance(value, (bool, int, float, dict))
            is_count = isinstance(current.get(name), int)  # floats may have any value
            if name not in current or not is_plain or (is_count and not _is_count(value)):
                raise ValueError(f"invalid trainer state: {name} = {value!r}")
            setattr(self, name, value)
        check_state(self.collapse)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 62
