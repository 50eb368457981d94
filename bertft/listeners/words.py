"""Events in words, a line each, for people. Steps have no sentence: ``Meter`` tells of them.

sentence(Started(0, 3000, 1000, 32000))   training: 3,000 steps, 1,000 an epoch, on 32,000 rows
sentence(Finished(3000, "done"))          done after 3,000 steps
"""

from __future__ import annotations

import signal

from bertft.config.messages import format_list
from bertft.formats.figures import format_count, format_duration, format_score
from bertft.formats.groups import split_metric_groups
from bertft.training.events import (
    Checkpointed,
    Evaluated,
    Event,
    Finished,
    Interrupted,
    MicroBatchReduced,
    StepSkipped,
    Started,
)

__all__ = ["describe_evaluation", "describe_event"]

_SHOWN_ROWS = 8


def describe_event(event: Event) -> str | None:
    """One line, or None for an event that has no sentence."""
    step = format_count(event.step)
    match event:
        case Started():
            plan = f"{format_count(event.steps_per_epoch)} an epoch, on {format_count(event.rows)} rows"
            if event.step == 0:
                return f"training: {format_count(event.total_steps)} steps, {plan}"
            return f"going on after step {step} of {format_count(event.total_steps)}, {plan}"
        case MicroBatchReduced():
            rows = format_count(event.micro_batch)
            return (
                f"out of memory after step {step}: {rows} rows a pass from here on, as many a step"
            )
        case StepSkipped():
            rows = format_list(event.rows, _SHOWN_ROWS)
            return f"step {step} was not applied: {event.reason} (rows {rows})"
        case Evaluated():
            return "  ".join([f"step {step}", *describe_evaluation(event)])
        case Checkpointed():
            return f"step {step} is saved: {event.path.name}"
        case Finished():
            if event.reason == "done":
                return f"done after {step} steps"
            return f"stopped after {step} steps: {event.reason}"
        case Interrupted():
            return f"interrupted by {signal.Signals(event.signum).name} after step {step}"
    return None


def describe_evaluation(event: Evaluated) -> list[str]:
    """What there is to tell of an evaluation, the more important first."""
    metric, loss = event.metric, event.metrics.get("loss")
    status = " best" if event.best else "" if event.eligible else " (does not count yet)"
    parts = [f"epoch {event.epoch:.2f}", f"{metric} {format_score(event.metrics[metric])}{status}"]
    if event.split != "validation":
        parts.insert(1, event.split)
    if loss is not None and metric != "loss":
        parts.append(f"loss {format_score(loss)}")
    shown, overall = {metric, "loss"}, split_metric_groups(event.metrics)[0]
    parts += [f"{name} {format_score(value)}" for name, value in overall.items() if name not in shown]
    return [*parts, f"in {format_duration(event.seconds)}"]
