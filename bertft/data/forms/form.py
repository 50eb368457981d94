"""The form of a task's rows: the columns asked for, what they become, and when a row is bad.

fields of a record, in the order of ``columns.all`` → ``parse`` → values in that of ``schema``
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from bertft.config.data import DataConfig
from bertft.data.bad_rows import BadRows
from bertft.data.columns import ColumnSpec

__all__ = ["ReadFunction", "RowSchema"]

Record = tuple[int, list[Any]]
ReadFunction = Callable[[Path, ColumnSpec, DataConfig, BadRows], Iterator[Record]]


class RowSchema(ABC):
    """``columns`` are read and make the table's columns ``fields`` (beside ``line``).

    A row that may be learnt from has a ``label``; null is a label that is missing.
    """

    text_fields: ClassVar[tuple[str, ...]]  # the columns by which two rows are the same
    label_fields: ClassVar[tuple[str, ...]] = ("label",)  # those that rows to answer have not
    group_field: ClassVar[str | None] = None  # rows with one value here are held out together
    readers_by_extension: Mapping[str, ReadFunction] = {}  # of file endings that these rows read in their own way
    default_reader: ReadFunction | None = None  # of no ending; of any other where data.separator is given
    missing_label_hint: ClassVar[str] = "Is data.label the column you mean?"  # where there are no labels

    has_classes: bool = False  # whether a label is the name of a class, or several
    # The classes of a model that is already trained, in the order of its logits.
    model_classes: list[str] | None = None
    columns: ColumnSpec
    fields: Sequence[tuple[str, pa.DataType]]

    @abstractmethod
    def __init__(self, config: DataConfig, labelled: bool) -> None: ...

    @property
    def arrow_schema(self) -> pa.Schema:
        """The columns of a table of rows: ``fields``, and the line that a row starts on."""
        return pa.schema([*self.fields, ("line", pa.int64())])

    @abstractmethod
    def parse(self, fields: Sequence[Any], split: str) -> list[Any]:
        """The values of one row. Raises Fault for a row that cannot be used in ``split``."""

    def take_ignored_parts(self) -> list[str]:
        """Reasons for the parts that the last ``parse`` left out of a row that is used."""
        return []

    def normalize_labels(self, table: pa.Table, declared_classes: list[str] | None, bad: BadRows) -> pa.Table:
        """The rows of a split as they are kept; those that do not fit go to ``bad``.

        Asked of the first split first, which may tell what holds for all; ``declared_classes`` are the
        source's classes.
        """
        return table

    def notes(self) -> list[str]:
        """What reading the rows has found out about them, to be told before training."""
        return []

    @cached_property
    def label_mapping(self) -> dict[str, str]:
        """Label of a file → class, for every label that was read as another text."""
        return {}

    def class_names(self, table: pa.Table, declared_classes: list[str] | None) -> list[str] | None:
        """The classes in order, given the first split and the source's ``declared_classes``; None: none."""
        return None

    def check_label_types(self, table: pa.Table, declared_classes: list[str] | None, bad: BadRows) -> None:
        """DataError where the labels of a whole split are of another kind than the task's."""

    def is_stratified(self) -> bool:
        """Whether a validation split is cut so that each class gives its share."""
        return False

    def nothing_to_learn(self, table: pa.Table) -> str:
        """Why training rows teach nothing; empty where they do."""
        return ""

    def record_unit(self, extension: str) -> str:
        """What the numbers of a file's records count; empty: its lines."""
        return ""

    @abstractmethod
    def label_statistics(self, table: pa.Table) -> dict[str, float]:
        """What to tell of the labels before training: a name and its share or value."""
