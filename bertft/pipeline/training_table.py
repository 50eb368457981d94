"""The features that a run trains on: labelled rows, rows without labels, and augmented copies.

Only the labelled rows have labels; the targets of all others come from the teacher of the
distillation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bertft.data.features import ConcatFeatureTable, FeatureTable
from bertft.data.rows import Rows
from bertft.data.splits import Splits
from bertft.tasks.shared.report import format_row_location
from bertft.tasks.task import BaseTask

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["StudentData", "TrainingTable", "join_training_table"]


@dataclass(frozen=True)
class TrainingTable:
    """The training features of a run.

    Attributes:
        features: labelled rows, then rows without labels, then each copy of all of them.
        splits: the rows of ``features``, without copies.
        copies_key: determines the copies together with the rows; None without copies.
    """

    features: FeatureTable
    splits: Splits
    copies_key: str | None = None

    @property
    def rows(self) -> list[Rows]:
        """The labelled rows, and those without labels if there are any."""
        return [rows for rows in (self.splits.train, self.splits.unlabelled) if rows is not None]

    def row_location(self, row: int) -> str:
        """Where a row is in the data, by its number in ``features``."""
        copy, row = divmod(row, sum(map(len, self.rows)))
        for rows in self.rows:
            if row < len(rows):
                location = format_row_location(rows, row)
                return f"copy {copy} of {location}" if copy else location
            row -= len(rows)
        raise AssertionError("the rows have consecutive numbers")


def join_training_table(features: Mapping[str, FeatureTable], splits: Splits) -> TrainingTable:
    """The table of the splits ``train`` and ``unlabelled``, without copies."""
    train = features["train"]
    if "unlabelled" in features:
        assert splits.train is not None
        train = ConcatFeatureTable(train, features["unlabelled"], len(splits.train))
    return TrainingTable(train, splits)


@dataclass(frozen=True)
class StudentData:
    """The data that the student is trained on; the teacher must support it, too.

    Attributes:
        features: split → features.
        training: the features to train on, which also contain augmented copies.
        cache: folder for features and outputs of the teacher.
    """

    task: BaseTask
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    splits: Splits
    features: Mapping[str, FeatureTable]
    training: TrainingTable
    cache: Path
