"""Everything that a training loop needs, made from a configuration, in an order that fails early.

rows → task → teacher → base → features → its answers → model with its parts → optimizer → order

Of a run that goes on, rows, tokenizer and base must be those that it was begun on. Several ranks
prepare the same; the first writes what has to be written before the others read it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from bertft.assembly import base, tokenizer_files
from bertft.assembly.adapted import Adapted, assemble, located
from bertft.assembly.features import features_of, unlabelled_features
from bertft.assembly.manifest import recorded_data, recorded_path
from bertft.assembly.merged import merged_model
from bertft.assembly.recorded_rows import only_recorded, sources_line
from bertft.assembly.teacher import Hired
from bertft.assembly.teaching import Teaching
from bertft.config.commands import TrainConfig
from bertft.config.messages import usage_error
from bertft.config.model import ModelConfig
from bertft.data.features import FeatureTable, cache_folder
from bertft.data.joined import JoinedTable
from bertft.data.order import TrainOrder
from bertft.data.report import DataReport, Special, describe
from bertft.data.rows import Rows
from bertft.data.sources import Splits, load, load_inputs
from bertft.errors import DataError, UsageError
from bertft.methods import build as build_parts
from bertft.methods import groups
from bertft.models.load import (
    head_parameters,
    last_linear,
    load_config,
    load_tokenizer,
    longest_input,
)
from bertft.models.precision import choose, recorded, resolve_device
from bertft.models.source import Source
from bertft.models.tokenizer_file import unknown_id
from bertft.runs.checkpoints import Checkpoints
from bertft.runs.folder import RunFolder
from bertft.tasks import build as build_task
from bertft.tasks.shared.classes import listed_classes
from bertft.tasks.shared.encoding import check_max_length
from bertft.tasks.task import BaseTask
from bertft.training import optimizer as optimizers
from bertft.training.randomness import diverge, seed_all
from bertft.training.ranks import ALONE, Ranks
from bertft.training.step import Stepper

__all__ = ["Prepared", "prepare"]

_THREADS = torch.get_num_threads()  # torch's own choice, before any run of this process set it


@dataclass
class Prepared:
    """``total`` optimizer steps over ``table``; ``warmup`` their share that warms up.

    ``tokenizer_files`` are what every checkpoint keeps of the tokenizer, by file name.
    ``hired`` is the teacher, where one is asked.
    """

    adapted: Adapted
    tokenizer_files: dict[str, bytes]
    stepper: Stepper
    splits: Splits
    features: dict[str, FeatureTable]
    table: FeatureTable
    hired: Hired | None
    report: DataReport
    order: TrainOrder
    max_length: int
    total: int
    warmup: float


def prepare(
    config: TrainConfig,
    run: RunFolder,
    manifest: dict[str, Any] | None,
    say: Callable[[str], None],
    ranks: Ranks = ALONE,
    checkpoint: Path | None = None,
    opened: bool = False,
) -> Prepared:
    """``manifest`` is that of a run that was begun before, None for a new one.

    ``checkpoint`` is the folder whose weights the caller loads next. A run that was begun and has
    none starts at its first step as a new one does, from the recorded facts. ``say`` prints
    messages before work that takes its time. ``opened``: the run is read and not trained on. It
    may be somebody else's: what is read is said before, and nothing is fetched for it.
    """
    trainer, method = config.trainer, config.method
    torch.set_num_threads(trainer.threads or _THREADS)
    device = ranks.device(resolve_device(trainer.device))
    if manifest is None:
        precision = choose(trainer.precision, device)
    else:
        precision = recorded(manifest["precision"], device, run.path)
    data = config.data if manifest is None else recorded_data(config.data, manifest)
    if opened:
        say(sources_line(data))
    with only_recorded(data) if opened else nullcontext():
        splits = load(data, cached_only=opened)
        if data.unlabelled is not None:
            splits.unlabelled = load_inputs(data.unlabelled, data, "data.unlabelled")
    if manifest is not None:
        _check_rows(splits, manifest)
    task = build_task(config.data, splits.labels)
    problems = list(task.problems(config.loss, config.tune_threshold))
    if problems:
        raise usage_error(problems)
    parts = build_parts(method, None, ())
    teaching = Teaching(
        parts, task, precision.name, str(device), manifest, config.model.trust_remote_code,
        cached_only=opened,
    )  # fmt: skip
    teaching.check()
    cut = manifest is None and teaching.cuts
    recorded_base = None if manifest is None else base.recorded(manifest, run)
    tokenizer, files = _tokenizer(config.model, run, manifest, recorded_base, checkpoint, teaching)
    seed_all(config.seed)
    if recorded_base is None:
        source = ranks.told(
            lambda: base.settle(
                config.model, task, tokenizer, files, run, merged_model,
                teaching.student() if cut else None,
            )
        )  # fmt: skip
    else:
        source = recorded_base
    taken = sum(part.positions for part in parts)
    found, _ = load_config(located(config.model, source), tokenizer, {})
    source = base.pinned(source, found)
    max_length = check_max_length(
        config.data.max_length, longest_input(found, tokenizer) - taken, task.default_max_length
    )
    cache, policy = cache_folder(config.data.cache), config.data.on_bad_row
    if not ranks.first:
        ranks.wait()  # what the first rank tokenised, and asked the teacher, is in the cache then
    most = config.data.max_skipped
    features = features_of(dict(splits.items()), task, tokenizer, max_length, cache, policy, most)
    table = features["train"]
    task.shape_loss(config.loss, table)
    if splits.unlabelled is not None:
        _check_unlabelled(task, splits.unlabelled)
        features["unlabelled"] = unlabelled_features(
            splits.unlabelled, task, tokenizer, max_length, cache, policy, most
        )
        assert splits.train is not None
        table = JoinedTable(table, features["unlabelled"], len(splits.train))
    hired = teaching.hire(tokenizer, max_length, splits, features, cache, say)
    if ranks.first:
        ranks.wait()
    torch.set_num_threads(trainer.threads or _THREADS)  # the teacher's own run may have set them
    seed_all(config.seed)
    adapted = assemble(
        source, config.model, method, task, tokenizer, precision,
        layout=manifest["layout"] if manifest else trainer.layout,
        rate=trainer.learning_rate, checkpointing=trainer.gradient_checkpointing,
        compiled=trainer.compile, base_classes=lambda: listed_classes(found.to_dict()),
    )  # fmt: skip
    starts = checkpoint is None
    if adapted.runner.family.one_by_one:
        say(
            f"padding would change what a {adapted.runner.family.model_type} model answers: rows"
            " run one at a time, which takes longer"
        )
    if starts and adapted.head_note and not teaching.cuts:  # a cut student has its teacher's
        say(f"{source.name}: {adapted.head_note}")
    if starts and not task.fresh_head and adapted.new & head_parameters(adapted.model).keys():
        say(f"{source.name} has no head for {task.name}: it begins at random, its scores at chance")
    teaching.bind(adapted, hired)
    if config.calibrate is not None:
        last_linear(adapted.model)  # without one a temperature could not be folded in the end
    if starts and not teaching.cuts:  # a cut student has its teacher's head
        head = head_parameters(adapted.model)  # what the base has trained is kept
        drawn = {name: each for name, each in head.items() if name in adapted.drawn}
        task.begin(drawn, features["train"])
    optimizer = optimizers.build(groups(adapted.parts, adapted.model), trainer)
    stepper = Stepper(
        adapted.runner,
        task,
        adapted.parts,
        optimizer,
        adapted.precision,
        trainer.max_grad_norm,
        ranks,
    )
    diverge(config.seed, ranks.rank)
    order = TrainOrder(table.lengths, trainer.batch_size, config.seed, trainer.shuffle_window)
    report = describe(
        splits, features, Special(unknown_id(tokenizer), tuple(tokenizer.all_special_ids))
    )
    epochs = trainer.epochs if trainer.epochs is not None else method.epochs
    total = trainer.max_steps or max(1, math.ceil(epochs * order.steps_per_epoch))
    return Prepared(
        adapted, files, stepper, splits, features, table, hired, report, order,
        max_length, total, trainer.warmup if trainer.warmup is not None else method.warmup,
    )  # fmt: skip


def _check_rows(splits: Splits, manifest: Mapping[str, Any]) -> None:
    """DataError where a split is not the one that the run was begun on."""
    for name, rows in splits.items():
        begun = manifest["data"]["splits"].get(name)
        if begun is None or begun["fingerprint"] != rows.fingerprint:
            raise DataError(
                f"the {name} rows are not those that the run was begun on", where=rows.source,
                hint="Put them back as they were, or start another run",
            )  # fmt: skip


def _check_unlabelled(task: BaseTask, rows: Rows) -> None:
    """UsageError where the task has nothing to learn from rows without labels."""
    if not task.learns_unlabelled:
        raise UsageError(
            f"{task.name} learns nothing from rows without labels", where=rows.source,
            hint="Leave data.unlabelled out",
        )  # fmt: skip


def _tokenizer(
    settings: ModelConfig,
    run: RunFolder,
    manifest: Mapping[str, Any] | None,
    source: Source | None,
    checkpoint: Path | None,
    teaching: Teaching,
) -> tuple[Any, dict[str, bytes]]:
    """The tokenizer and the files that keep it: of a run that was begun, those that it kept.

    Before its first checkpoint a run may have kept none: then it is the tokenizer of ``source``,
    its recorded base, or of model.tokenizer where the run was begun. UsageError if that is not the
    recorded one any more. A new run on another run takes the tokenizer of that run's best
    checkpoint.
    """
    kept: Path | None = checkpoint
    if kept is None and source is not None and source.kind == base.OWN:
        kept = run.base
    if kept is not None:
        tokenizer = load_tokenizer(replace(settings, tokenizer=str(kept)), own_class=True)
        return tokenizer, tokenizer_files.kept(kept)
    if manifest is not None and source is not None:
        return _recorded_tokenizer(settings, manifest, source)
    if teaching.cuts:
        tokenizer = teaching.open().adapted.tokenizer
    elif settings.tokenizer is None and base.is_run(settings):
        other = RunFolder(Path(settings.path or "").expanduser())
        best = Checkpoints(other.checkpoints).find("best")
        tokenizer = load_tokenizer(replace(settings, tokenizer=str(best)), own_class=True)
    else:
        tokenizer = load_tokenizer(settings)
    return tokenizer, tokenizer_files.made_by(tokenizer)


def _recorded_tokenizer(
    settings: ModelConfig, manifest: Mapping[str, Any], source: Source
) -> tuple[Any, dict[str, bytes]]:
    given = settings.tokenizer
    place = None if given is None else recorded_path(given, manifest)
    tokenizer = load_tokenizer(replace(located(settings, source), tokenizer=place))
    files = tokenizer_files.made_by(tokenizer)
    if manifest.get("tokenizer") not in (None, tokenizer_files.digest(files)):
        raise UsageError(
            "the tokenizer is not the one that the run was begun with", where=place or source.load,
            hint="Put it back as it was, or start another run",
        )  # fmt: skip
    return tokenizer, files
