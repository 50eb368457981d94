"""Build the data of a run: rows, task, base with its tokenizer, features.

    rows → task → teacher (opened and checked) → base and tokenizer → features

The base belongs to the data because the features depend on its tokenizer. Errors in the settings
and in the rows are raised here, before the model is loaded. An existing run uses the rows, the
tokenizer and the base that it recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bertft.config.task_facts import is_metric_function
from bertft.data.batch import LengthGroupedSampler
from bertft.data.cache import cache_folder
from bertft.data.features import FeatureTable
from bertft.data.row_findings import find_row_findings
from bertft.data.splits import Splits, load_splits, load_unlabelled
from bertft.data.statistics import DataReport, SpecialTokenIds, summarize_splits
from bertft.errors import UsageError
from bertft.methods import build_components
from bertft.methods.component import MethodComponent
from bertft.models.loading import load_config, load_model
from bertft.models.source import ModelSource, find_model_source
from bertft.models.tokenizer import load_tokenizer, unknown_id
from bertft.pipeline import base_model
from bertft.pipeline.augmentation import add_augmented_copies
from bertft.pipeline.conformal import check_calibration_rows
from bertft.pipeline.distillation import DistillationSetup
from bertft.pipeline.manifest import recorded_data, recorded_path
from bertft.pipeline.open_model import load_folded_model
from bertft.pipeline.recorded_rows import (
    check_recorded_rows,
    describe_sources,
    hide_recorded_content,
)
from bertft.pipeline.run_context import RunContext
from bertft.pipeline.task_model import longest_input, resolve_source
from bertft.pipeline.training_table import TrainingTable, join_training_table
from bertft.runs.checkpoints import CheckpointStore
from bertft.tasks.feature_tables import build_features, build_unlabelled_features
from bertft.tasks.shared.encoding import resolve_max_length
from bertft.tasks.shared.metric_function import load_metric_function
from bertft.tasks.task import BaseTask, build_task
from bertft.training.random_state import seed_all
from bertft.training.trainer import TrainingData
from bertft.utils.messages import usage_error
from bertft.utils.status import show_status

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

__all__ = ["BaseModel", "RunData", "build_data"]

_NEW_RUN_HINT = "To train with other rows, start a new run"


@dataclass(frozen=True)
class BaseModel:
    """The source of the base, its config with the task's labels, and its tokenizer.

    Attributes:
        tokenizer_files: the files of the tokenizer that every checkpoint stores, by file name.
    """

    source: ModelSource
    config: PreTrainedConfig
    tokenizer: PreTrainedTokenizerBase
    tokenizer_files: dict[str, bytes]


@dataclass(frozen=True)
class RunData:
    """The data of a run.

    Attributes:
        components: those of the method. They belong to the data because the maximum length
            depends on the positions that they reserve; ``build_model`` attaches them.
        features: split → features.
        training_table: the features to train on, with their rows.
        training: training and validation features, and the order of training.
    """

    task: BaseTask
    distillation: DistillationSetup
    base: BaseModel
    components: Sequence[MethodComponent]
    max_length: int
    splits: Splits
    features: dict[str, FeatureTable]
    training_table: TrainingTable
    training: TrainingData
    report: DataReport


def build_data(context: RunContext) -> RunData:
    """Load the rows and build their features. Raises UsageError and DataError."""
    config = context.config
    show_status("reading data")
    splits = _load_rows(context)
    if splits.named_labels is not None:
        config.data.labels = splits.named_labels  # recorded, so that later commands map them too
    task = build_task(config.data, splits.class_names)
    if problems := list(task.find_problems(config.loss, config.tune_threshold)):
        raise usage_error(problems)
    if is_metric_function(task.metric) and not context.read_only:
        task.metric_function = load_metric_function(task.metric)
    distillation = DistillationSetup(context, task)
    distillation.check_teachers()
    base = _resolve_base(context, task, distillation)
    components = build_components(config.method, config.trainer.learning_rate)
    max_length = resolve_max_length(
        config.data.max_length,
        longest_input(base.config, base.tokenizer, components),
        task.default_max_length,
    )
    show_status("tokenizing")
    with context.distributed.main_process_first():  # the others find the features in the cache
        features = _build_features(context, splits, task, base, max_length)
    if config.calibrate == "conformal":
        validation = features.get("validation")
        check_calibration_rows(None if validation is None else len(validation), config.coverage)
    if task.metric_function is not None and "validation" in features:
        _try_metric_function(task, features["validation"])
    training, augmented = join_training_table(features, splits), None
    if distillation.settings is not None and distillation.settings.augment:
        show_status("augmenting the training rows")
        with context.distributed.main_process_first():
            training, augmented = add_augmented_copies(
                training,
                distillation.load_teacher(),
                distillation.settings,
                task,
                base.tokenizer,
                max_length,
                config.data.seed,
                cache_folder(config.data.cache),
            )
    train, trainer = training.features, config.trainer
    sampler = LengthGroupedSampler(
        train.lengths, trainer.batch_size, config.seed, trainer.shuffle_window
    )
    special_tokens = SpecialTokenIds(
        unknown_id(base.tokenizer), tuple(base.tokenizer.all_special_ids)
    )
    report = summarize_splits(splits, features, special_tokens)
    report.augmented = augmented
    if context.manifest is None and context.distributed.is_main_process:
        show_status("checking rows for duplicates")
        report.findings = find_row_findings(
            splits, features, max_length, report.splits["train"].unknown
        )
    return RunData(
        task,
        distillation,
        base,
        components,
        max_length,
        splits,
        features,
        training,
        TrainingData(train, features.get("validation"), sampler, training.row_location),
        report,
    )


def _try_metric_function(task: BaseTask, validation: FeatureTable) -> None:
    """Call the function in data.metric on random scores, to report its errors before training."""
    generator = np.random.default_rng(0)
    outputs = generator.normal(size=(len(validation), task.head_config()["num_labels"]))
    assert task.metric_function is not None
    task.metric_function(*task.metric_inputs(outputs.astype(np.float32), validation))


def _load_rows(context: RunContext) -> Splits:
    manifest, data = context.manifest, context.config.data
    if manifest is not None:
        data = recorded_data(data, manifest)
    if context.read_only:
        context.log(describe_sources(data))
    hint = None if context.read_only else _NEW_RUN_HINT
    with nullcontext() if manifest is None else hide_recorded_content(data, hint=hint):
        # The names of an existing run do not change.
        splits = load_splits(
            data, cached_only=context.read_only, name_binary_column=manifest is None
        )
        if data.unlabelled is not None:
            splits.unlabelled = load_unlabelled(data.unlabelled, data)
    if manifest is not None:
        check_recorded_rows(splits, manifest, data, hint=_NEW_RUN_HINT)
    return splits


def _resolve_base(
    context: RunContext, task: BaseTask, distillation: DistillationSetup
) -> BaseModel:
    """Find the base and its tokenizer; write the base first if it exists nowhere else."""
    settings = context.config.model
    recorded: ModelSource | None = None
    if context.manifest is not None:
        recorded = base_model.find_recorded_base(context.manifest, context.run_folder)
    tokenizer, tokenizer_files = _load_tokenizer(context, recorded, distillation)
    source = recorded or context.distributed.broadcast_object(
        lambda: _create_base(context, task, distillation, tokenizer, tokenizer_files)
    )
    model_config, _ = load_config(resolve_source(settings, source), tokenizer, task.head_config())
    source = base_model.pin_revision(source, model_config)
    return BaseModel(source, model_config, tokenizer, tokenizer_files)


def _create_base(
    context: RunContext,
    task: BaseTask,
    distillation: DistillationSetup,
    tokenizer: PreTrainedTokenizerBase,
    tokenizer_files: dict[str, bytes],
) -> ModelSource:
    """The base of a new run: a student, a folded run, random weights, a folder or a Hub id."""
    settings, run_folder = context.config.model, context.run_folder
    if distillation.builds_student:
        name, model = distillation.build_student()
        return base_model.materialize_base(name, model, tokenizer_files, run_folder, keep_head=True)
    if base_model.is_based_on_run(settings):
        assert settings.path is not None
        model = load_folded_model(
            base_model.run_folder_of(settings.path), settings.trust_remote_code
        )
        return base_model.materialize_base(settings.path, model, tokenizer_files, run_folder)
    if settings.weights == "random":
        seed_all(context.config.seed)  # the weights are drawn
        model_config, source = load_config(settings, tokenizer, task.head_config())
        loaded = load_model(settings, model_config, source, task.auto_class)
        model = loaded.model
        return base_model.materialize_base(settings.name, model, tokenizer_files, run_folder)
    assert settings.path is not None, "checked with the configuration"
    return find_model_source(settings.path, settings.revision)


def _load_tokenizer(
    context: RunContext, recorded_base: ModelSource | None, distillation: DistillationSetup
) -> tuple[PreTrainedTokenizerBase, dict[str, bytes]]:
    """The tokenizer and its files.

    An existing run uses the tokenizer in its checkpoint or in its stored base, or loads it again if
    it has neither. A new run uses the tokenizer of the teacher if the student is cut from it, and
    that of the best checkpoint if its base is a run.
    """
    settings = context.config.model
    stored: Path | None = context.checkpoint
    if (
        stored is None
        and recorded_base is not None
        and recorded_base.kind == base_model.STORED_IN_RUN
    ):
        stored = context.run_folder.base_dir
    if stored is not None:
        tokenizer = load_tokenizer(replace(settings, tokenizer=str(stored)), use_file_class=True)
        return tokenizer, base_model.read_tokenizer_files(stored)
    if recorded_base is not None:
        return _load_recorded_tokenizer(context, recorded_base)
    if distillation.builds_student:
        tokenizer = distillation.load_teacher().task_model.tokenizer
    elif settings.tokenizer is None and base_model.is_based_on_run(settings):
        base_run = base_model.run_folder_of(settings.path or "")
        best = CheckpointStore(base_run.checkpoints_dir).find_checkpoint("best")
        tokenizer = load_tokenizer(replace(settings, tokenizer=str(best)), use_file_class=True)
    else:
        tokenizer = load_tokenizer(settings)
    return tokenizer, base_model.serialize_tokenizer(tokenizer)


def _load_recorded_tokenizer(
    context: RunContext, base: ModelSource
) -> tuple[PreTrainedTokenizerBase, dict[str, bytes]]:
    """Load the tokenizer of the settings or the base. UsageError if it has changed since."""
    settings, manifest = context.config.model, context.manifest
    assert manifest is not None
    path = settings.tokenizer
    if path is not None:
        path = recorded_path(path, manifest)
    tokenizer = load_tokenizer(replace(resolve_source(settings, base), tokenizer=path))
    files = base_model.serialize_tokenizer(tokenizer)
    if manifest.get("tokenizer") not in (None, base_model.tokenizer_digest(files)):
        raise UsageError(
            "the tokenizer is not the one that the run was started with",
            where=path or base.load,
            hint="Restore it, or start a new run",
        )
    return tokenizer, files


def _build_features(
    context: RunContext, splits: Splits, task: BaseTask, base: BaseModel, max_length: int
) -> dict[str, FeatureTable]:
    """Build the features of all splits; set the loss weights of the task from those of train."""
    config, data = context.config, context.config.data
    cache = cache_folder(data.cache)
    features = build_features(
        dict(splits.items()),
        task,
        base.tokenizer,
        max_length,
        cache,
        data.on_bad_row,
        data.max_skipped,
    )
    task.configure_loss(config.loss, features["train"])
    if splits.unlabelled is not None:
        if not task.can_distill_unlabelled:
            raise UsageError(
                f"{task.name} does not support rows without labels",
                where=splits.unlabelled.source,
                hint="Remove data.unlabelled",
            )
        features["unlabelled"] = build_unlabelled_features(
            splits.unlabelled,
            task,
            base.tokenizer,
            max_length,
            cache,
            data.on_bad_row,
            data.max_skipped,
        )
    return features
