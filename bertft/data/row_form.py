"""What a row of a task holds: which columns it asks for, how a record becomes a row, what is wrong.

A task names its form (``bertft.tasks.row_form``), so that reading rows knows tasks by nothing but
this contract, and needs no torch. The form here is that of a text, or two, with one label.

    asked → read → fields, parse         a record becomes a row, or a Fault with its line
    learn, settle                        what the first split tells of all; rows that do not fit
    classes, check, check_enough         the rows together
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from bertft.config.data import DataConfig
from bertft.data import classes
from bertft.data.bad_rows import BadRows
from bertft.data.checks import check_enough, check_form, clean, text_of
from bertft.data.columns import Asked, asked
from bertft.data.files import read_file
from bertft.data.labels import FORMS, Form, class_name, zero_or_one
from bertft.data.separated import Record
from bertft.errors import UsageError

__all__ = ["RowForm"]


class RowForm:
    """The rows of the task that ``config`` names; ``notes`` are told with the data's report."""

    def __init__(self, config: DataConfig) -> None:
        self.config = config
        self.notes: list[str] = []
        if not self.has_classes and config.labels is not None:
            raise UsageError(
                f"means nothing for {config.task}, which has no classes", where="data.labels",
                hint="Leave it out",
            )  # fmt: skip

    @property
    def has_classes(self) -> bool:
        """Whether what is learnt are classes with names."""
        return self.config.task != "regression"

    def asked(self, labelled: bool = True) -> Asked:
        """The columns that a row is made of; without ``labelled`` those of a row to predict."""
        return asked(self.config, labelled)

    def read(self, path: Path, columns: Asked, bad: BadRows) -> Iterator[Record]:
        """The records of a file; what does not parse goes to ``bad``."""
        return read_file(path, columns, self.config, bad)

    def fields(self, columns: Asked) -> list[pa.Field]:
        """The Arrow columns of a row, ``line`` apart. One called ``label`` is what is learnt."""
        names = ["text", "text_pair"][: len(columns.text)]
        fields = [pa.field(name, pa.large_string()) for name in names]
        return [*fields, pa.field("label", self._label.kind)] if columns.label else fields

    def parse(self, values: Sequence[Any], columns: Asked) -> list[Any]:
        """``fields`` of one record's asked values; a missing label is None. Raises Fault."""
        count = len(columns.text)
        row: list[Any] = [text_of(value) for value in values[:count]]
        if columns.label:
            given = [_label(value) for value in values[count:]]
            row.append(self._label.parse(given, self.config.label_separator))
        return row

    def learn(self, table: pa.Table) -> None:
        """Look at the rows of the first split for what holds for all splits."""

    def settle(self, table: pa.Table, bad: BadRows) -> pa.Table:
        """The rows as they are kept; those that do not fit what was learnt go to ``bad``."""
        return table

    @property
    def named(self) -> list[str] | None:
        """The class names that the configuration itself gives, None where the rows tell them."""
        if self._by_column:
            return self._column_names()
        if self.config.labels is None:
            return None
        return [class_name(name) or "" for name in self.config.labels]

    def classes(self, table: pa.Table, named: Sequence[str] | None) -> list[str] | None:
        """The class names in order, from those that were ``named``, else from the first split."""
        return list(named) if named is not None else classes.found(table)

    def check(self, table: pa.Table, named: bool, bad: BadRows) -> None:
        """DataError where the labels are not of the kind that the task learns."""
        check_form(self.config.task, table, named, bad)

    def check_enough(self, table: pa.Table, bad: BadRows, training: bool) -> None:
        """DataError where nothing is left to use, or (``training``) nothing to learn."""
        check_enough(self.config.task, table, bad, training)

    @property
    def stratified(self) -> bool:
        """Whether a validation split that is cut off keeps the share of each label."""
        return self.config.task == "classification"

    @property
    def _label(self) -> Form:
        form = FORMS[self.config.task]
        if not self._by_column:
            return form
        names = self._column_names()
        return dataclasses.replace(
            form,
            parse=lambda fields, _: [
                name for name, field in zip(names, fields, strict=True) if zero_or_one(field)
            ],
        )

    @property
    def _by_column(self) -> bool:
        """Whether each class has a 0/1 column of its own."""
        return self.config.task == "multi_label" and not isinstance(self.config.label, (str, int))

    def _column_names(self) -> list[str]:
        """Class names of a list of 0/1 columns: data.labels, else the columns themselves."""
        names = [str(name) for name in self.config.labels or self.config.label]
        if len(names) != len(self.config.label):
            raise UsageError(
                f"{len(names)} names for {len(self.config.label)} columns", where="data.labels",
                hint="Name each column of data.label once, in its order",
            )  # fmt: skip
        return names


def _label(value: Any) -> Any:
    if isinstance(value, list):
        return [_label(each) for each in value]
    return clean(value, "label") if isinstance(value, str) else value
