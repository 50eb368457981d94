"""Build the optimization of a run: optimizer, training step and schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bertft.methods import collect_param_groups
from bertft.pipeline.data import RunData
from bertft.pipeline.model import RunModel
from bertft.pipeline.run_context import RunContext
from bertft.training.optim import build_optimizer
from bertft.training.random_state import seed_per_rank
from bertft.training.step import Schedule, TrainStep

__all__ = ["Optimization", "build_optimization"]


@dataclass(frozen=True)
class Optimization:
    """The training step, and the schedule of its learning rate."""

    train_step: TrainStep
    schedule: Schedule


def build_optimization(context: RunContext, data: RunData, model: RunModel) -> Optimization:
    """Build the optimizer and the schedule; seed the random generators per process."""
    config, trainer, task_model = context.config, context.config.trainer, model.task_model
    param_groups = collect_param_groups(task_model.components, task_model.model)
    train_step = TrainStep(
        task_model.runner,
        data.task,
        task_model.components,
        build_optimizer(param_groups, trainer),
        task_model.precision,
        trainer.max_grad_norm,
        context.distributed,
    )
    seed_per_rank(config.seed, context.distributed.rank)
    epochs = config.method.epochs if trainer.epochs is None else trainer.epochs
    warmup = config.method.warmup if trainer.warmup is None else trainer.warmup
    steps = max(1, math.ceil(epochs * data.training.sampler.steps_per_epoch))
    total_steps = steps if trainer.max_steps is None else trainer.max_steps
    schedule = Schedule(total_steps, warmup, trainer.schedule)
    return Optimization(train_step, schedule)
