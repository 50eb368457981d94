"""Augmented copies of the training rows of a distillation (``method.distill.augment``)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from torch import nn

from bertft.config.method_components.distill import DistillConfig
from bertft.data.features import ConcatFeatureTable, FeatureTable, feature_key
from bertft.data.statistics import AugmentedRows
from bertft.distill.augmentation import (
    REPLACED_COLUMN,
    Augmentation,
    augment_features,
    augmentation_key,
    classify_tokens,
)
from bertft.errors import DataError, UsageError
from bertft.pipeline.loaded_model import LoadedModel
from bertft.pipeline.teacher import teacher_digest
from bertft.pipeline.teacher_features import teacher_feature_length
from bertft.pipeline.training_table import TrainingTable
from bertft.tasks.feature_tables import feature_key_parts
from bertft.tasks.task import BaseTask

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["add_augmented_copies"]

_SETTING = "method.distill.augment"


def add_augmented_copies(
    training: TrainingTable,
    teacher: LoadedModel,
    settings: DistillConfig,
    task: BaseTask,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    data_seed: int,
    cache: Path,
) -> tuple[TrainingTable, AugmentedRows]:
    """``training`` with ``settings.augment`` copies of each row, and their numbers.

    Similar words are those with similar input embeddings of ``teacher``.

    Raises:
        UsageError: the task has no targets for copies, or the teacher has other tokens.
        DataError: no word of the rows can be replaced.
    """
    if not task.can_distill_unlabelled:
        raise UsageError(
            f"{task.name} does not support augmented copies, which have no labels",
            where=_SETTING,
            hint="Leave it out",
        )
    teacher_feature_length(teacher, tokenizer, max_length, token_aligned=True)
    embeddings = cast(nn.Embedding, teacher.task_model.model.get_input_embeddings()).weight
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    key_parts = feature_key_parts(task, tokenizer, max_length)
    augmentation = Augmentation(settings.augment, settings.augment_probability, data_seed)
    source_keys = [feature_key(rows, key_parts) for rows in training.rows]
    key = augmentation_key([*source_keys, teacher_digest(teacher)], augmentation)
    row_count = sum(map(len, training.rows))
    source = training.features
    try:
        copies = augment_features(
            source,
            row_count,
            task.label_columns,
            embeddings.detach().float().cpu().numpy(),
            classify_tokens(tokens, tokenizer.all_special_ids),
            augmentation,
            key,
            cache,
        )
    except ValueError as error:
        raise DataError(
            "no word of the training rows can be replaced: no token is a word of letters",
            where=_SETTING,
            hint="Leave it out",
        ) from error
    replaced = copies.read_column(REPLACED_COLUMN)
    statistics = AugmentedRows(
        rows=row_count,
        copies=settings.augment,
        unchanged=int((replaced == 0).sum()),
        replaced=float(replaced.sum() / copies.lengths.sum()),
    )
    return TrainingTable(_append(training, copies, row_count), training.splits, key), statistics


def _append(training: TrainingTable, copies: FeatureTable, row_count: int) -> FeatureTable:
    """One table, in which only the labelled rows have labels."""
    source = training.features
    if not isinstance(source, ConcatFeatureTable):
        return ConcatFeatureTable(source, copies, row_count)
    unlabelled_count = row_count - source.first_row_count
    unlabelled = ConcatFeatureTable(source.second, copies, unlabelled_count)
    return ConcatFeatureTable(source.first, unlabelled, source.first_row_count)
