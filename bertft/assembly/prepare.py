"""Everything that a training loop needs, made from a configuration, in an order that fails early.

rows → task → base → features → model with its parts → optimizer → order of rows
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from bertft.assembly import base
from bertft.assembly.adapted import Adapted, assemble
from bertft.assembly.features import features_of
from bertft.assembly.merged import merged_model
from bertft.config.commands import TrainConfig
from bertft.config.model import ModelConfig
from bertft.data.features import FeatureTable, cache_folder
from bertft.data.order import TrainOrder
from bertft.data.report import DataReport, describe
from bertft.data.sources import Splits, load
from bertft.methods import build as build_parts
from bertft.methods import groups
from bertft.models.load import load_config, load_tokenizer, longest_input
from bertft.models.precision import choose, resolve_device
from bertft.runs.checkpoints import Checkpoints
from bertft.runs.folder import RunFolder
from bertft.tasks import build as build_task
from bertft.tasks.shared.encoding import check_max_length
from bertft.training import optimizer as adamw
from bertft.training.randomness import seed_all
from bertft.training.step import Stepper

__all__ = ["Prepared", "prepare"]


@dataclass
class Prepared:
    """``total`` optimizer steps; ``warmup`` their share that warms up."""

    adapted: Adapted
    stepper: Stepper
    splits: Splits
    features: dict[str, FeatureTable]
    report: DataReport
    order: TrainOrder
    max_length: int
    total: int
    warmup: float


def prepare(config: TrainConfig, run: RunFolder, manifest: dict[str, Any] | None) -> Prepared:
    """``manifest`` is that of a run that goes on, None for one that begins."""
    trainer, method = config.trainer, config.method
    if trainer.threads is not None:
        torch.set_num_threads(trainer.threads)
    device = resolve_device(trainer.device)
    splits = load(config.data)
    task = build_task(config.data, splits.labels)
    tokenizer = load_tokenizer(_with_tokenizer(config.model))
    seed_all(config.seed)
    if manifest is None:
        source = base.settle(config.model, task, tokenizer, run.base, merged_model)
    else:
        source = base.recorded(manifest, run)
    found = replace(config.model, path=source.load, weights="pretrained", architecture={})
    taken = sum(part.positions for part in build_parts(method, None, ()))
    longest = longest_input(load_config(found, tokenizer, {})[0], tokenizer) - taken
    max_length = check_max_length(config.data.max_length, longest)
    features = features_of(
        dict(splits.items()), task, tokenizer, max_length, cache_folder(config.data.cache)
    )
    seed_all(config.seed)
    adapted = assemble(
        source, config.model, method, task, tokenizer,
        choose(manifest["precision"] if manifest else trainer.precision, device),
        layout=manifest["layout"] if manifest else trainer.layout,
        rate=trainer.learning_rate, checkpointing=trainer.gradient_checkpointing,
    )  # fmt: skip
    optimizer = adamw.build(groups(adapted.parts, adapted.model), trainer)
    stepper = Stepper(
        adapted.runner, task, adapted.parts, optimizer, adapted.precision, trainer.clip
    )
    order = TrainOrder(
        features["train"].lengths, trainer.batch_size, config.seed, trainer.shuffle_window
    )
    epochs = trainer.epochs if trainer.epochs is not None else method.epochs
    total = trainer.steps or max(1, math.ceil(epochs * order.steps_per_epoch))
    return Prepared(
        adapted, stepper, splits, features, describe(splits, features), order, max_length, total,
        trainer.warmup if trainer.warmup is not None else method.warmup,
    )  # fmt: skip


def _with_tokenizer(settings: ModelConfig) -> ModelConfig:
    """Of a run as base, the tokenizer lies in its checkpoint."""
    if settings.tokenizer is None and settings.path is not None:
        other = RunFolder(Path(settings.path).expanduser())
        if other.begun:
            folder = Checkpoints(other.checkpoints).find("best")
            return replace(settings, tokenizer=str(folder))
    return settings
