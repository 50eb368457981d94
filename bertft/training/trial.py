"""Does a run fit, and how long will it take? A step of the longest rows, then some of its own.

    seconds ≈ tokens to train on · s a token + evaluations · validation tokens · s a token

The step of the longest rows asks for the most memory that any step can. Times of a token are
those of the run's own first batches, forward and backward, and of a middling validation batch.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch

from bertft.data.batch import collate
from bertft.data.order import evaluation_batches
from bertft.training.evaluate import scored, token_budget
from bertft.training.events import MemoryShort, Skipped
from bertft.training.loop import Loop
from bertft.training.window import windows

__all__ = ["Trial", "try_out"]

_TIMED = 3  # steps


@dataclass(frozen=True)
class Trial:
    """``rows`` of up to ``longest`` tokens in one step; ``seconds`` are guessed for the whole run.

    ``micro_batch``: rows a pass that memory sufficed for; ``short``: fewer than were asked for.
    """

    rows: int
    longest: int
    micro_batch: int
    short: bool
    finite: bool
    evaluations: int
    seconds: float


def try_out(loop: Loop) -> Trial:
    """Take steps of ``loop``, whose model is of no use afterwards."""
    lengths = np.asarray(loop.table.lengths)
    longest = np.argsort(-lengths, kind="stable")[: loop.settings.batch_size]
    loop.stepper.runner.model.train()
    events = list(loop.take(loop.cut(0, longest)))
    seconds = tokens = 0.0
    for epoch, indices in windows(loop.order, 0, min(_TIMED, loop.total)):
        start = _now(loop)
        events += loop.take(loop.cut(epoch, indices))
        seconds += _now(loop) - start
        tokens += int(lengths[indices].sum())
    whole = float(lengths.sum()) * loop.total / loop.order.steps_per_epoch
    guess = whole * seconds / tokens
    evaluations = 0
    if loop.validation is not None:
        every = loop.settings.evaluate_every or loop.order.steps_per_epoch
        evaluations = -(-loop.total // every)
        guess += evaluations * _evaluation(loop)
    return Trial(
        rows=len(longest),
        longest=int(lengths[longest[0]]),
        micro_batch=min(loop.micro_batch, len(longest)),
        short=any(isinstance(event, MemoryShort) for event in events),
        finite=not any(isinstance(event, Skipped) for event in events),
        evaluations=evaluations,
        seconds=guess,
    )


def _evaluation(loop: Loop) -> float:
    """Seconds of one evaluation, from a batch of middling length."""
    assert loop.validation is not None
    stepper, lengths = loop.stepper, np.asarray(loop.validation.lengths)
    batches = evaluation_batches(lengths, token_budget(stepper.precision.device))
    indices = batches[len(batches) // 2]
    prepare = scored(stepper.task)
    stepper.runner.model.eval()
    with torch.inference_mode(), stepper.precision.context():
        for _ in range(2):  # the first one warms up
            start = _now(loop)
            batch = prepare(collate(loop.validation, indices, stepper.task.label_columns))
            stepper.runner(batch.to(stepper.precision.device))
            seconds = _now(loop) - start
    return seconds * float(lengths.sum()) / float(lengths[indices].sum()) / loop.ranks.size


def _now(loop: Loop) -> float:
    device = loop.stepper.precision.device
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
