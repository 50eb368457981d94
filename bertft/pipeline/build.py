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

from bertft.config.command_configs import TrainConfig
from bertft.config.model import ModelConfig
from bertft.data.batch import LengthGroupedSampler
from bertft.data.features import ConcatFeatureTable, FeatureTable, cache_folder
from bertft.data.rows import Rows
from bertft.data.splits import Splits, load_inputs, load_splits
from bertft.data.statistics import DataReport, SpecialTokenIds, summarize_splits
from bertft.errors import DataError, UsageError
from bertft.methods import build_components as build_parts
from bertft.methods import collect_param_groups
from bertft.models.loading import (
    head_parameters,
    load_config,
    load_tokenizer,
    max_input_length,
    output_layer,
)
from bertft.models.precision import choose_precision, recorded_precision, resolve_device
from bertft.models.source import ModelSource
from bertft.models.tokenizer import unknown_id
from bertft.pipeline import base_model, tokenizer_files
from bertft.pipeline.data import describe_sources, only_recorded
from bertft.pipeline.distillation import DistillationSetup
from bertft.pipeline.manifest import recorded_data, recorded_path
from bertft.pipeline.model import TaskModel, build_task_model, resolve_source
from bertft.pipeline.open_model import open_model
from bertft.pipeline.teacher import TeacherContext
from bertft.runs.checkpoints import CheckpointStore
from bertft.runs.run_folder import RunFolder
from bertft.tasks.shared.encoding import resolve_max_length
from bertft.tasks.shared.sequence_task import class_names_in_config
from bertft.tasks.task import BaseTask, build_features, build_unlabelled_features
from bertft.tasks.task import build_task as build_task
from bertft.training import optim as optimizers
from bertft.training.distributed import SINGLE_PROCESS, DistributedContext
from bertft.training.random_state import seed_all, seed_per_rank
from bertft.training.step import TrainStep
from bertft.utils.messages import usage_error

__all__ = [
    "PreparedRun",
    "load_merged_model",
    "prepare_run",
]


def load_merged_model(run: Path, trust_remote_code: bool) -> Any:
    """Of the run in ``run``, its best checkpoint. UsageError if it has a part that cannot
    fold, or needs code that comes with it and there is no ``trust_remote_code``."""
    loaded = open_model(
        str(run),
        precision="fp32",
        device="cpu",
        trust_remote_code=trust_remote_code,
        trust_setting="model.trust_remote_code",
    )
    for part in loaded.task_model.components:
        if not part.foldable:
            raise UsageError(
                f"the run {run} has a {part.name}, which no weights can hold",
                where="model.path",
                hint="Train on a run without one",
            )
    loaded.task_model.fold()
    return loaded.task_model.model


_THREADS = torch.get_num_threads()  # torch's own choice, before any run of this process set it


@dataclass
class PreparedRun:
    """``total_steps`` optimizer steps over ``train_table``; ``warmup_fraction`` their share that
    warms up.

    ``tokenizer_files`` are what every checkpoint keeps of the tokenizer, by file name.
    ``teacher`` is the teacher, where one is asked.
    """

    task_model: TaskModel
    tokenizer_files: dict[str, bytes]
    stepper: TrainStep
    splits: Splits
    features: dict[str, FeatureTable]
    train_table: FeatureTable
    teacher: TeacherContext | None
    data_report: DataReport
    sampler: LengthGroupedSampler
    max_length: int
    total_steps: int
    warmup_fraction: float


def prepare_run(
    config: TrainConfig,
    run: RunFolder,
    manifest: dict[str, Any] | None,
    log: Callable[[str], None],
    ranks: DistributedContext = SINGLE_PROCESS,
    checkpoint: Path | None = None,
    read_only: bool = False,
) -> PreparedRun:
    """``manifest`` is that of a run that was begun before, None for a new one.

    ``checkpoint`` is the folder whose weights the caller loads next. A run that was begun and has
    none starts at its first step as a new one does, from the recorded facts. ``log`` prints
    messages before work that takes its time. ``read_only``: the run is read and not trained on. It
    may be somebody else's: what is read is said before, and nothing is fetched for it.
    """
    trainer, method = config.trainer, config.method
    torch.set_num_threads(trainer.threads or _THREADS)
    device = ranks.device_for_rank(resolve_device(trainer.device))
    if manifest is None:
        precision = choose_precision(trainer.precision, device)
    else:
        precision = recorded_precision(manifest["precision"], device, run.path)
    data = config.data if manifest is None else recorded_data(config.data, manifest)
    if read_only:
        log(describe_sources(data))
    with only_recorded(data) if read_only else nullcontext():
        splits = load_splits(data, cached_only=read_only)
        if data.unlabelled is not None:
            splits.unlabelled = load_inputs(data.unlabelled, data, "data.unlabelled")
    if manifest is not None:
        _check_recorded_fingerprints(splits, manifest)
    task = build_task(config.data, splits.class_names)
    problems = list(task.find_problems(config.loss, config.tune_threshold))
    if problems:
        raise usage_error(problems)
    components = build_parts(method, None, ())
    distillation = DistillationSetup(
        components,
        task,
        precision.name,
        str(device),
        manifest,
        config.model.trust_remote_code,
        cached_only=read_only,
    )
    distillation.check_teacher()
    builds_student = manifest is None and distillation.builds_student
    recorded_base = None if manifest is None else base_model.find_recorded_base(manifest, run)
    tokenizer, files = _load_run_tokenizer(
        config.model, run, manifest, recorded_base, checkpoint, distillation
    )
    seed_all(config.seed)
    if recorded_base is None:
        source = ranks.broadcast_object(
            lambda: base_model.materialize_base(
                config.model,
                task,
                tokenizer,
                files,
                run,
                load_merged_model,
                distillation.build_student() if builds_student else None,
            )
        )
    else:
        source = recorded_base
    reserved_positions = sum(part.reserved_positions for part in components)
    model_config, _ = load_config(resolve_source(config.model, source), tokenizer, {})
    source = base_model.pin_revision(source, model_config)
    max_length = resolve_max_length(
        config.data.max_length,
        max_input_length(model_config, tokenizer) - reserved_positions,
        task.default_max_length,
    )
    cache, policy = cache_folder(config.data.cache), config.data.on_bad_row
    if not ranks.is_main_process:
        # what the first rank tokenised, and asked the teacher, is in the cache then
        ranks.barrier()
    max_skipped = config.data.max_skipped
    features = build_features(
        dict(splits.items()), task, tokenizer, max_length, cache, policy, max_skipped
    )
    table = features["train"]
    task.configure_loss(config.loss, table)
    if splits.unlabelled is not None:
        _check_unlabelled(task, splits.unlabelled)
        features["unlabelled"] = build_unlabelled_features(
            splits.unlabelled, task, tokenizer, max_length, cache, policy, max_skipped
        )
        assert splits.train is not None
        table = ConcatFeatureTable(table, features["unlabelled"], len(splits.train))
    teacher = distillation.prepare(tokenizer, max_length, splits, features, cache, log)
    if ranks.is_main_process:
        ranks.barrier()
    torch.set_num_threads(trainer.threads or _THREADS)  # the teacher's own run may have set them
    seed_all(config.seed)
    task_model = build_task_model(
        source,
        config.model,
        method,
        task,
        tokenizer,
        precision,
        layout=manifest["layout"] if manifest else trainer.layout,
        learning_rate=trainer.learning_rate,
        gradient_checkpointing=trainer.gradient_checkpointing,
        compiled=trainer.compile,
        base_classes=lambda: class_names_in_config(model_config.to_dict()),
    )
    is_new_run = checkpoint is None
    if task_model.runner.family.runs_rows_alone:
        log(
            f"padding would change what a {task_model.runner.family.model_type} model answers: rows"
            " run one at a time, which takes longer"
        )
    if (
        is_new_run and task_model.head_note and not distillation.builds_student
    ):  # a cut student has its teacher's
        log(f"{source.name}: {task_model.head_note}")
    if (
        is_new_run
        and not task.trains_new_head
        and task_model.new_parameters & head_parameters(task_model.model).keys()
    ):
        log(f"{source.name} has no head for {task.name}: it begins at random, its scores at chance")
    distillation.bind_teacher(task_model, teacher)
    if config.calibrate is not None:
        output_layer(task_model.model)  # without one a temperature could not be folded in the end
    if is_new_run and not distillation.builds_student:  # a cut student has its teacher's head
        head = head_parameters(task_model.model)  # what the base has trained is kept
        new_head_parameters = {
            name: each for name, each in head.items() if name in task_model.randomly_initialized
        }
        task.init_head(new_head_parameters, features["train"])
    optimizer = optimizers.build_optimizer(
        collect_param_groups(task_model.components, task_model.model), trainer
    )
    stepper = TrainStep(
        task_model.runner,
        task,
        task_model.components,
        optimizer,
        task_model.precision,
        trainer.max_grad_norm,
        ranks,
    )
    seed_per_rank(config.seed, ranks.rank)
    sampler = LengthGroupedSampler(
        table.lengths, trainer.batch_size, config.seed, trainer.shuffle_window
    )
    report = summarize_splits(
        splits, features, SpecialTokenIds(unknown_id(tokenizer), tuple(tokenizer.all_special_ids))
    )
    epochs = trainer.epochs if trainer.epochs is not None else method.epochs
    total_steps = trainer.max_steps or max(1, math.ceil(epochs * sampler.steps_per_epoch))
    return PreparedRun(
        task_model,
        files,
        stepper,
        splits,
        features,
        table,
        teacher,
        report,
        sampler,
        max_length,
        total_steps,
        trainer.warmup if trainer.warmup is not None else method.warmup,
    )


def _check_recorded_fingerprints(splits: Splits, manifest: Mapping[str, Any]) -> None:
    """DataError where a split is not the one that the run was begun on."""
    for name, rows in splits.items():
        recorded_split = manifest["data"]["splits"].get(name)
        if recorded_split is None or recorded_split["fingerprint"] != rows.fingerprint:
            raise DataError(
                f"the {name} rows are not those that the run was begun on",
                where=rows.source,
                hint="Put them back as they were, or start another run",
            )


def _check_unlabelled(task: BaseTask, rows: Rows) -> None:
    """UsageError where the task has nothing to learn from rows without labels."""
    if not task.can_distill_unlabelled:
        raise UsageError(
            f"{task.name} learns nothing from rows without labels",
            where=rows.source,
            hint="Leave data.unlabelled out",
        )


def _load_run_tokenizer(
    settings: ModelConfig,
    run: RunFolder,
    manifest: Mapping[str, Any] | None,
    base_source: ModelSource | None,
    checkpoint: Path | None,
    distillation: DistillationSetup,
) -> tuple[Any, dict[str, bytes]]:
    """The tokenizer and the files that keep it: of a run that was begun, those that it kept.

    Before its first checkpoint a run may have kept none: then it is the tokenizer of
    ``base_source``, its recorded base, or of model.tokenizer where the run was begun. UsageError if
    that is not the recorded one any more. A new run on another run takes the tokenizer of that
    run's best checkpoint.
    """
    tokenizer_folder: Path | None = checkpoint
    if (
        tokenizer_folder is None
        and base_source is not None
        and base_source.kind == base_model.OWN_COPY
    ):
        tokenizer_folder = run.base_dir
    if tokenizer_folder is not None:
        tokenizer = load_tokenizer(
            replace(settings, tokenizer=str(tokenizer_folder)), use_file_class=True
        )
        return tokenizer, tokenizer_files.read_tokenizer_files(tokenizer_folder)
    if manifest is not None and base_source is not None:
        return _load_recorded_tokenizer(settings, manifest, base_source)
    if distillation.builds_student:
        tokenizer = distillation.load_teacher().task_model.tokenizer
    elif settings.tokenizer is None and base_model.is_based_on_run(settings):
        other = RunFolder(Path(settings.path or "").expanduser())
        best = CheckpointStore(other.checkpoints_dir).find_checkpoint("best")
        tokenizer = load_tokenizer(replace(settings, tokenizer=str(best)), use_file_class=True)
    else:
        tokenizer = load_tokenizer(settings)
    return tokenizer, tokenizer_files.serialize_tokenizer(tokenizer)


def _load_recorded_tokenizer(
    settings: ModelConfig, manifest: Mapping[str, Any], source: ModelSource
) -> tuple[Any, dict[str, bytes]]:
    setting = settings.tokenizer
    tokenizer_path = None if setting is None else recorded_path(setting, manifest)
    tokenizer = load_tokenizer(replace(resolve_source(settings, source), tokenizer=tokenizer_path))
    files = tokenizer_files.serialize_tokenizer(tokenizer)
    if manifest.get("tokenizer") not in (None, tokenizer_files.tokenizer_digest(files)):
        raise UsageError(
            "the tokenizer is not the one that the run was begun with",
            where=tokenizer_path or source.load,
            hint="Put it back as it was, or start another run",
        )
    return tokenizer, files
