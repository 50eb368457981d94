"""Everything that a training loop needs, made from a configuration, in an order that fails early.

rows → task → base → features → model with its parts → optimizer → order of rows

Of a run that goes on, rows, tokenizer and base must be those that it was begun on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from bertft.assembly import base
from bertft.assembly.adapted import Adapted, assemble, located
from bertft.assembly.features import features_of
from bertft.assembly.manifest import recorded_data
from bertft.assembly.merged import merged_model
from bertft.config.commands import TrainConfig
from bertft.config.model import ModelConfig
from bertft.data.features import FeatureTable, cache_folder
from bertft.data.order import TrainOrder
from bertft.data.report import DataReport, describe
from bertft.data.sources import Splits, load
from bertft.errors import DataError
from bertft.methods import build as build_parts
from bertft.methods import groups
from bertft.models.load import head_parameters, load_config, load_tokenizer, longest_input
from bertft.models.precision import choose, resolve_device
from bertft.runs.checkpoints import Checkpoints
from bertft.runs.folder import RunFolder
from bertft.tasks import build as build_task
from bertft.tasks import row_form
from bertft.tasks.shared.encoding import check_max_length
from bertft.training import optimizer as adamw
from bertft.training.randomness import seed_all
from bertft.training.step import Stepper

__all__ = ["Prepared", "prepare"]

_THREADS = torch.get_num_threads()  # torch's own choice, before any run of this process set it


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
    torch.set_num_threads(trainer.threads or _THREADS)
    device = resolve_device(trainer.device)
    if manifest is None:
        splits = load(config.data, form=row_form(config.data))
    else:
        splits = load(recorded_data(config.data, manifest), form=row_form(config.data))
        _check_rows(splits, manifest)
    task = build_task(config.data, splits.labels)
    tokenizer = load_tokenizer(_with_tokenizer(config.model, run, manifest))
    seed_all(config.seed)
    if manifest is None:
        source = base.settle(config.model, task, tokenizer, run, merged_model)
    else:
        source = base.recorded(manifest, run)
    taken = sum(part.positions for part in build_parts(method, None, ()))
    found, _ = load_config(located(config.model, source), tokenizer, {})
    source = base.pinned(source, found)
    max_length = check_max_length(config.data.max_length, longest_input(found, tokenizer) - taken)
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
    if manifest is None:
        task.begin(head_parameters(adapted.model), features["train"])
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


def _check_rows(splits: Splits, manifest: Mapping[str, Any]) -> None:
    """DataError where a split is not the one that the run was begun on."""
    for name, rows in splits.items():
        begun = manifest["data"]["splits"].get(name)
        if begun is not None and begun["fingerprint"] != rows.fingerprint:
            raise DataError(
                f"the {name} rows are not those that the run was begun on", where=rows.source,
                hint="Put them back as they were, or start another run",
            )  # fmt: skip


def _with_tokenizer(
    settings: ModelConfig, run: RunFolder, manifest: Mapping[str, Any] | None
) -> ModelConfig:
    """With the tokenizer that the run itself keeps; of a run as base, that of its checkpoint."""
    folder: Path | None = None
    if manifest is not None:
        if manifest["base"]["kind"] == base.OWN:
            folder = run.base
        elif Checkpoints(run.checkpoints).steps():
            folder = Checkpoints(run.checkpoints).find("last", with_state=True)
    elif settings.tokenizer is None and base.is_run(settings):
        other = RunFolder(Path(settings.path or "").expanduser())
        folder = Checkpoints(other.checkpoints).find("best")
    return settings if folder is None else replace(settings, tokenizer=str(folder), revision=None)
