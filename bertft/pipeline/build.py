"""Prepare a run: everything that a training loop needs, built from the configuration."""

from __future__ import annotations

from dataclasses import dataclass

from bertft.pipeline.data import RunData, build_data
from bertft.pipeline.model import RunModel, build_model
from bertft.pipeline.optimization import Optimization, build_optimization
from bertft.pipeline.run_context import RunContext

__all__ = ["PreparedRun", "prepare_run"]


@dataclass(frozen=True)
class PreparedRun:
    """The result of ``prepare_run``."""

    data: RunData
    model: RunModel
    optimization: Optimization


def prepare_run(context: RunContext) -> PreparedRun:
    """Build the data, the model and the optimization, in this order."""
    data = build_data(context)
    model = build_model(context, data)
    return PreparedRun(data, model, build_optimization(context, data, model))
