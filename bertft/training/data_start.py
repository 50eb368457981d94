"""Passes over the first batches, from which components initialize parameters.

They run once, before the first step of a run (``MethodComponent.start_from_data``).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from bertft.config.trainer import TrainerConfig
from bertft.data.batch import Batch, LengthGroupedSampler
from bertft.data.features import FeatureTable
from bertft.training.distributed import SINGLE_PROCESS, DistributedContext
from bertft.training.step import TrainStep, build_step_batch, retry_on_oom, step_indices
from bertft.utils.status import show_status

__all__ = ["start_from_data"]


def start_from_data(
    train_step: TrainStep,
    table: FeatureTable,
    sampler: LengthGroupedSampler,
    settings: TrainerConfig,
    distributed: DistributedContext,
) -> None:
    """Initialize the components of ``train_step`` that need it, with rows of ``table``.

    Only the main process runs the passes, because the results of other processes could differ by
    rounding, which eigenvectors of close eigenvalues amplify.
    """
    model = train_step.runner.model
    for component in train_step.components:
        if not component.start_batches:
            continue
        if distributed.is_main_process:
            show_status("initializing updates from data", brief=True)
            run = partial(
                _run_passes, train_step, table, sampler, settings, component.start_batches
            )
            component.start_from_data(model, run)
        groups = component.param_groups(model)
        distributed.broadcast_parameters(
            dict(pair for group in groups for pair in group.parameters)
        )
    if train_step.average is not None:
        train_step.average.reset()


def _run_passes(
    train_step: TrainStep,
    table: FeatureTable,
    sampler: LengthGroupedSampler,
    settings: TrainerConfig,
    count: int,
    reset: Callable[[], None],
) -> None:
    """Run the first ``count`` step batches; after an out-of-memory error, in smaller parts."""
    # Halving it does not reduce the micro-batches of training, which may need less memory.
    size = settings.micro_batch or settings.batch_size
    task, seed = train_step.task, sampler.seed

    def make_batches() -> list[Batch]:
        return [
            batch
            for epoch, rows in step_indices(sampler, 0, count)
            for batch in build_step_batch(
                table, epoch, rows, size, task, seed, SINGLE_PROCESS
            ).micro_batches
        ]

    def make_smaller() -> list[Batch] | None:
        nonlocal size
        if size == 1:
            return None
        size = -(-size // 2)
        return make_batches()

    retry_on_oom(train_step.backward_without_dropout, make_batches(), make_smaller, reset)
