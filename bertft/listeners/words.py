"""Events in words, a line each, for people. Steps have no sentence: ``Meter`` tells of them.

sentence(Started(0, 3000, 1000, 32000))   training: 3,000 steps, 1,000 an epoch, on 32,000 rows
sentence(Finished(3000, "done"))          done after 3,000 steps
"""

from __future__ import annotations

import signal

from bertft.config.messages import listing
from bertft.formats.figures import count, duration, score
from bertft.formats.groups import by_group
from bertft.training.events import (
    Checkpointed,
    Evaluated,
    Event,
    Finished,
    Interrupted,
    MemoryShort,
    Skipped,
    Started,
)

__all__ = ["evaluation", "sentence"]

_SHOWN_ROWS = 8


def sentence(event: Event) -> str | None:
    """One line, or None for an event that has no sentence."""
    step = count(event.step)
    match event:
        case Started():
            ahead = f"{count(event.steps_per_epoch)} an epoch, on {count(event.rows)} rows"
            if event.step == 0:
                return f"training: {count(event.total_steps)} steps, {ahead}"
            return f"going on after step {step} of {count(event.total_steps)}, {ahead}"
        case MemoryShort():
            rows = count(event.micro_batch)
            return (
                f"out of memory after step {step}: {rows} rows a pass from here on, as many a step"
            )
        case Skipped():
            rows = listing(event.rows, _SHOWN_ROWS)
            return f"step {step} was not applied: {event.reason} (rows {rows})"
        case Evaluated():
            return "  ".join([f"step {step}", *evaluation(event)])
        case Checkpointed():
            return f"step {step} is saved: {event.path.name}"
        case Finished():
            if event.reason == "done":
                return f"done after {step} steps"
            return f"stopped after {step} steps: {event.reason}"
        case Interrupted():
            return f"interrupted by {signal.Signals(event.signum).name} after step {step}"
    return None


def evaluation(event: Evaluated) -> list[str]:
    """What there is to tell of an evaluation, the more important first."""
    chosen, loss = event.metric, event.metrics.get("loss")
    mark = " best" if event.best else "" if event.counts else " (does not count yet)"
    parts = [f"epoch {event.epoch:.2f}", f"{chosen} {score(event.metrics[chosen])}{mark}"]
    if event.split != "validation":
        parts.insert(1, event.split)
    if loss is not None and chosen != "loss":
        parts.append(f"loss {score(loss)}")
    told, whole = {chosen, "loss"}, by_group(event.metrics)[0]
    parts += [f"{name} {score(each)}" for name, each in whole.items() if name not in told]
    return [*parts, f"in {duration(event.seconds)}"]
