"""Features of the student's rows for a teacher: those of the student, or of its own tokenizer."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from bertft.data.features import FeatureTable, tokenizer_hash
from bertft.errors import DataError, UsageError
from bertft.pipeline.loaded_model import LoadedModel
from bertft.pipeline.training_table import StudentData
from bertft.tasks.feature_tables import build_features, build_unlabelled_features

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["build_teacher_features", "teacher_feature_length"]

_SETTING = "method.distill.teacher"


def teacher_feature_length(
    loaded: LoadedModel,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    token_aligned: bool,
) -> int | None:
    """The maximum length of the teacher's own features; None if it uses the student's.

    Args:
        tokenizer: of the student, like ``max_length``.
        token_aligned: whether the tokens of teacher and student must be the same.

    Raises:
        UsageError: they must be, and they are not.
    """
    task_model = loaded.task_model
    has_same_tokenizer = tokenizer_hash(task_model.tokenizer) == tokenizer_hash(tokenizer)
    longest = task_model.max_input_length
    if has_same_tokenizer and max_length <= longest:
        return None
    if not token_aligned:
        return min(loaded.info.max_length, longest)
    if not has_same_tokenizer:
        raise UsageError(
            f"the teacher's tokenizer is {_describe_tokenizer(task_model.tokenizer)}, the"
            f" student's {_describe_tokenizer(tokenizer)}: their tokens do not correspond",
            where=_SETTING,
            hint="Choose a student with the teacher's tokenizer. Different tokenizers are supported"
            " only by tasks with one output per row, with the loss on the teacher's logits alone"
            " (method.distill.weight) and method.distill.augment=0",
        )
    raise UsageError(
        f"is {max_length}, but the teacher supports at most {longest} tokens",
        where="data.max_length",
        hint=f"Set data.max_length={longest} or less",
    )


def build_teacher_features(
    loaded: LoadedModel, student: StudentData, max_length: int
) -> dict[str, FeatureTable]:
    """Features of the student's rows from the teacher's tokenizer.

    Raises:
        DataError: only one of teacher and student has features for a row, so that outputs would be
            compared with those for other rows.
    """
    task, tokenizer = student.task, loaded.task_model.tokenizer
    # Skipped rows are counted with the student's features.
    rows = {
        name: replace(split, bad=copy.deepcopy(split.bad))
        for name, split in student.splits.items()
        if name in student.features
    }
    unlabelled = rows.pop("unlabelled", None)
    tables = build_features(rows, task, tokenizer, max_length, student.cache, "skip")
    if unlabelled is not None:
        tables["unlabelled"] = build_unlabelled_features(
            unlabelled, task, tokenizer, max_length, student.cache, "skip"
        )
    for name, table in tables.items():
        teacher_mask = table.rows_with_features()
        student_mask = student.features[name].rows_with_features()
        differing = np.flatnonzero(teacher_mask != student_mask)
        if len(differing):
            raise DataError(
                f"this is the first of {len(differing):,} {name} rows that the tokenizer of only"
                f" one of teacher and student can encode with data.max_length={max_length}",
                where=table.rows.location(int(differing[0])),
                hint="Remove them, or set a data.max_length that they fit with both tokenizers",
            )
    return tables


def _describe_tokenizer(tokenizer: PreTrainedTokenizerBase) -> str:
    return f"{type(tokenizer).__name__} with {len(tokenizer):,} tokens"
