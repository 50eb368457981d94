"""Build the optimization of a run: optimizer, training step and schedule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bertft.config.method import MethodConfig
from bertft.config.registry import METHODS
from bertft.methods import collect_param_groups
from bertft.methods.component import MethodComponent, ParamGroup
from bertft.pipeline.data import RunData
from bertft.pipeline.model import RunModel
from bertft.pipeline.run_context import RunContext
from bertft.training.optim import build_optimizer
from bertft.training.random_state import seed_per_rank
from bertft.training.step import Schedule, TrainStep

__all__ = ["Optimization", "build_optimization", "group_component"]


@dataclass(frozen=True)
class Optimization:
    """The training step, the schedule of its learning rate, and setting → peak learning rate."""

    train_step: TrainStep
    schedule: Schedule
    rates: dict[str, float]


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
        trainer.ema,
    )
    seed_per_rank(config.seed, context.distributed.rank)
    epochs = config.method.epochs if trainer.epochs is None else trainer.epochs
    warmup = config.method.warmup if trainer.warmup is None else trainer.warmup
    steps = max(1, math.ceil(epochs * data.training.sampler.steps_per_epoch))
    total_steps = steps if trainer.max_steps is None else trainer.max_steps
    schedule = Schedule(total_steps, warmup, trainer.schedule)
    if trainer.learning_rate is not None:
        rates = {"trainer.learning_rate": trainer.learning_rate}
    else:
        rates = _component_rates(config.method, task_model.components, param_groups)
    return Optimization(train_step, schedule, rates)


def group_component(group: str) -> str | None:
    """The component that has the parameter group ``group``; None for new modules (task head)."""
    name = group.partition("/")[0]  # low_rank_b/no_decay
    return next(
        (known for known in METHODS.names() if name == known or name.startswith(f"{known}_")), None
    )


def _component_rates(
    method: MethodConfig, components: Sequence[MethodComponent], groups: Sequence[ParamGroup]
) -> dict[str, float]:
    """The settings of the learning rates of the components that train ``groups``."""
    trained = {group_component(group.name) for group in groups}
    rates = {}
    for component in components:
        name = component.name if component.name in METHODS.names() else None
        if name not in trained:
            continue
        if name is None:
            rates["method.head_learning_rate"] = component.learning_rate
        elif hasattr(getattr(method, name), "learning_rate"):  # other packages may have no setting
            rates[f"method.{name}.learning_rate"] = component.learning_rate
    return rates
