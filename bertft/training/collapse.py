"""Notice that a run has collapsed: its predictions no longer depend on the input.

    Σ_s ℓ_s ≥ 0.99 · Σ_s c_s       over the last 50 applied steps s, from 100 steps after warm-up

ℓ_s is the mean loss on the labels of step s, and c_s that of the best prediction that ignores the
input (``BaseTask.input_free_losses``), on the same rows: how often a class occurs in these steps
does not matter. An evaluation with constant predictions (``COLLAPSE_KINDS``) shows a collapse too,
unless the loss is below 0.9 · Σ c_s: with rare classes, a useful model may predict one class at
first. Tasks without c_s rely on the evaluations.

A run that has hardly learned looks the same. The messages therefore say what was measured, and a
report is withdrawn once the loss is below 0.95 · Σ c_s.

With ``trainer.on_collapse=retry``, training returns to the last good checkpoint, or to the start,
and continues with half the learning rate. A checkpoint is good if the loss of the 50 steps after it
was below the bound above (without c_s: if the next evaluation has no constant predictions). Every
decision depends on losses and metrics alone, which are equal in all processes, and a checkpoint
contains the state, so that a resumed run takes the same decisions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy as np

from bertft.config.trainer import TrainerConfig
from bertft.data.features import FeatureTable
from bertft.data.findings import COLLAPSE_KINDS, Finding
from bertft.errors import CollapseError
from bertft.tasks.shared.input_free import InputFreeLosses
from bertft.tasks.task import BaseTask
from bertft.training.step import Schedule

__all__ = ["Collapse", "CollapseMonitor", "check_state", "constant_prediction"]

WINDOW = 50  # steps
GRACE_STEPS = 100  # after warm-up, or after training returned to a checkpoint
_COLLAPSED, _RECOVERED, _LEARNED = 0.99, 0.95, 0.9  # of the loss of the input-free prediction
_MIN_LOSS = 1e-9  # below it all labels are equal, and there is nothing to learn
_NO_CHECKPOINT = "no good checkpoint is left to return to"


@dataclass(frozen=True)
class Collapse:
    """What was measured after ``step``.

    Attributes:
        loss: Mean training loss of the last steps on labels; None if it is not known.
        input_free_loss: That of the best prediction that ignores the input.
        finding: The message of a finding on an evaluation; empty if the loss shows the collapse.
    """

    step: int
    loss: float | None
    input_free_loss: float | None
    finding: str

    def describe(self) -> str:
        """The measurement as a sentence without a full stop, which starts in lower case."""
        if self.finding:
            return self.finding[0].lower() + self.finding[1:]
        return (
            f"the training loss of the last {WINDOW} steps is {self.loss:.4f}, at the level of the"
            f" best prediction that ignores the input ({self.input_free_loss:.4f})"
        )


@dataclass
class _State:
    """What a checkpoint contains; the names of the fields are its keys.

    Attributes:
        losses, levels: ℓ and c of the last steps.
        constant: The message of the finding of the last evaluation; empty if it has none.
        collapse: The collapse that was noticed; None also after it was withdrawn.
        noticed: Whether one was reported since the start or the last retry.
        good: Step of the last good checkpoint, and that of the best one at that time.
        candidate: The same of a checkpoint that may prove to be good.
        retries: For each, the step of the collapse and the step to which training returned.
    """

    losses: list[float] = field(default_factory=list)
    levels: list[float] = field(default_factory=list)
    constant: str = ""
    collapse: dict[str, Any] | None = None
    noticed: bool = False
    good: list[int | None] | None = None
    candidate: list[int | None] | None = None
    retries: list[list[int]] = field(default_factory=list)


class CollapseMonitor:
    """Records steps, evaluations and checkpoints, and detects that the run has collapsed.

    Args:
        task: None if the labels are not trained on.
        features: the training features.
        rates: setting → peak learning rate, for the advice.
        state: what ``state_dict`` returned; empty for a new run.
    """

    def __init__(
        self,
        task: BaseTask | None,
        features: FeatureTable,
        schedule: Schedule,
        settings: TrainerConfig,
        rates: Mapping[str, float],
        state: Mapping[str, Any],
    ) -> None:
        self._task, self._features, self._settings = task, features, settings
        self._rates, self._state = dict(rates), _State(**state)
        self._first_step = round(schedule.warmup_fraction * schedule.total_steps) + GRACE_STEPS
        self._is_enabled = self._first_step <= schedule.total_steps

    def state_dict(self) -> dict[str, Any]:
        """The state as JSON values; empty for a run that is too short to be observed."""
        return asdict(self._state) if self._is_enabled else {}

    # What the trainer records

    def record_step(self, step: int, loss: float, indices: np.ndarray) -> None:
        """Record an applied step on the features ``indices``.

        ``loss``: the mean loss on the labels; NaN in a step without such a loss.
        """
        if not self._is_enabled or self._input_free is None or math.isnan(loss):
            return
        level = self._input_free.mean(indices)
        if level is None:
            return
        state = self._state
        state.losses, state.levels = (
            [*state.losses, loss][-WINDOW:],
            [*state.levels, level][-WINDOW:],
        )
        if state.candidate is not None and step >= int(state.candidate[0] or 0) + WINDOW:
            self._decide_candidate(self._ratio is not None and self._ratio < _COLLAPSED)

    def needs_evaluation(self) -> bool:
        """Whether ``record_evaluation`` needs the findings: they are not needed if it learned."""
        return self._is_enabled and (self._ratio is None or self._ratio >= _LEARNED)

    def record_evaluation(self, constant: str) -> None:
        """``constant``: the result of ``constant_prediction``, or empty if it is not needed."""
        self._state.constant = constant
        if self._state.candidate is not None and self._input_free is None:
            self._decide_candidate(not constant)

    def record_checkpoint(self, step: int, best_step: int | None) -> None:
        """Called before the checkpoint of ``step`` is saved, whose state contains the result."""
        state = self._state
        if not self.allows_retries:
            return
        if step == 0:
            state.good = [step, best_step]
        elif state.candidate is None and state.collapse is None:
            state.candidate = [step, best_step]

    # What the trainer does

    def notice(self, step: int) -> Collapse | None:
        """The collapse of the run after ``step``, when it is noticed."""
        state = self._state
        returned_to = state.retries[-1][1] if state.retries else -GRACE_STEPS
        if not self._is_enabled or step < max(self._first_step, returned_to + GRACE_STEPS):
            return None
        ratio = self._ratio
        by_loss = ratio is not None and ratio >= _COLLAPSED
        constant = state.constant if ratio is None or ratio >= _LEARNED else ""
        if not by_loss and not constant:
            if ratio is None or ratio < _RECOVERED:
                state.collapse = None
            return None
        loss, level = (
            (None, None)
            if ratio is None
            else (sum(state.losses) / WINDOW, sum(state.levels) / WINDOW)
        )
        collapse = Collapse(step, loss, level, "" if by_loss else constant)
        is_new = not state.noticed
        if state.collapse is None:
            state.collapse = asdict(collapse)
        state.noticed = True
        return collapse if is_new else None

    @property
    def must_respond(self) -> bool:
        """Whether the run has collapsed and does not just continue with a warning."""
        return self._state.collapse is not None and self._settings.on_collapse != "warn"

    @property
    def allows_retries(self) -> bool:
        """Whether training may return to a checkpoint. The start has to be saved then."""
        return self._is_enabled and self._settings.on_collapse == "retry"

    @property
    def rate_factor(self) -> float:
        """The factor on all learning rates: ½ per retry."""
        return 0.5 ** len(self._state.retries)

    @property
    def retries(self) -> list[list[int]]:
        """For each retry, the step of the collapse and the step to which training returned."""
        return self._state.retries

    @property
    def protected_steps(self) -> set[int]:
        """The steps whose checkpoints must be kept, because training may return to them."""
        pairs = (self._state.good, self._state.candidate)
        return {step for pair in pairs if pair is not None for step in pair if step is not None}

    def start_retry(self) -> int:
        """Record a retry; return the step of the checkpoint that training returns to.

        Raises CollapseError if the run stops instead.
        """
        state, allowed = self._state, self._settings.max_retries
        assert state.collapse is not None
        collapse, count = Collapse(**state.collapse), len(state.retries)
        reason = ""
        if self.allows_retries:
            if count < allowed and state.good is not None:
                good_step = int(state.good[0] or 0)
                self._state = _State(
                    good=state.good, retries=[*state.retries, [collapse.step, good_step]]
                )
                return good_step
            reason = (
                f" (after {count} {'retry' if count == 1 else 'retries'})"
                if count >= allowed
                else f" ({_NO_CHECKPOINT})"
            )
        raise CollapseError(
            f"the run has collapsed{reason}: {collapse.describe()}",
            where=f"step {collapse.step}",
            hint=f"{self.advice}. To continue this run as it is, resume it with"
            " trainer.on_collapse=warn",
        )

    @property
    def advice(self) -> str:
        """The settings to change."""
        halved = " ".join(
            f"{setting}={rate * self.rate_factor / 2:.3g}" for setting, rate in self._rates.items()
        )
        text = f"Set {halved} (half of the present rate)" if halved else "Lower the learning rate"
        return f"{text}; if the loss never fell, train longer or raise the learning rate"

    def findings(self, steps: int) -> Iterator[Finding]:
        """What the result of a run of ``steps`` steps says about collapses."""
        collapse, retries = self._state.collapse, self._state.retries
        if collapse is not None:
            measured = Collapse(**collapse)
            yield Finding(
                "training_collapsed",
                f"The run may have collapsed before step {measured.step:,}: {measured.describe()}",
                steps - measured.step,
                steps,
                "",
                f"{self.advice}. trainer.on_collapse=retry lowers the learning rate during the run",
            )
        if retries:
            count, (collapsed_step, good_step) = len(retries), retries[-1]
            yield Finding(
                "training_retried",
                f"The run collapsed {count} {'time' if count == 1 else 'times'}. It went back to"
                f" step {good_step:,} from step {collapsed_step:,} and continued with"
                f" {self.rate_factor:g} of the learning rate",
                count,
                steps,
                "",
                "Lower the learning rate of further runs",
            )

    @cached_property
    def _input_free(self) -> InputFreeLosses | None:
        return None if self._task is None else self._task.input_free_losses(self._features)

    @property
    def _ratio(self) -> float | None:
        """Σ ℓ / Σ c of the last ``WINDOW`` steps; None if it is not known."""
        level = sum(self._state.levels)
        if len(self._state.losses) < WINDOW or level <= WINDOW * _MIN_LOSS:
            return None
        return sum(self._state.losses) / level

    def _decide_candidate(self, is_good: bool) -> None:
        if is_good:
            self._state.good = self._state.candidate
        self._state.candidate = None


def constant_prediction(task: BaseTask, outputs: np.ndarray, features: FeatureTable) -> str:
    """The message of the finding that the predictions are constant; empty if they are not.

    Arguments as in ``BaseTask.prediction_findings``.
    """
    findings = task.prediction_findings(outputs, features)
    return next((finding.message for finding in findings if finding.kind in COLLAPSE_KINDS), "")


def check_state(state: Any) -> None:
    """Raise ValueError unless ``state`` can be what ``CollapseMonitor.state_dict`` returned."""
    checks: dict[str, Callable[[Any], bool]] = {
        "losses": _is_list_of(_is_float),
        "levels": _is_list_of(_is_float),
        "constant": lambda value: isinstance(value, str),
        "collapse": lambda value: value is None or _is_collapse(value),
        "noticed": lambda value: isinstance(value, bool),
        "good": lambda value: value is None or _is_pair(value, or_none=True),
        "candidate": lambda value: value is None or _is_pair(value, or_none=True),
        "retries": _is_list_of(_is_pair),
    }
    is_valid = (
        isinstance(state, dict)
        and state.keys() in (set(), checks.keys())
        and all(checks[name](value) for name, value in state.items())
        and (not state or len(state["losses"]) == len(state["levels"]))
    )
    if not is_valid:
        raise ValueError("invalid state of the collapse monitor")


def _is_list_of(is_valid: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda values: isinstance(values, list) and all(map(is_valid, values))


def _is_float(value: Any) -> bool:
    return type(value) is float


def _is_step(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 62


def _is_pair(value: Any, or_none: bool = False) -> bool:
    """Whether ``value`` is a list of two steps; the second may be None if ``or_none``."""
    if not isinstance(value, list) or len(value) != 2:
        return False
    return _is_step(value[0]) and (_is_step(value[1]) or (or_none and value[1] is None))


def _is_collapse(value: Any) -> bool:
    if not isinstance(value, dict) or value.keys() != {entry.name for entry in fields(Collapse)}:
        return False
    values = (value["loss"], value["input_free_loss"])
    has_reason = all(map(_is_float, values)) or (bool(value["finding"]) and values == (None, None))
    return _is_step(value["step"]) and isinstance(value["finding"], str) and has_reason
