"""The usual rows: one text or a pair of them, and a label (a class, several, or a number)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bertft.config.data import DataConfig
from bertft.config.messages import listing, quoted, shortened
from bertft.config.registry import TASKS
from bertft.data import classes
from bertft.data.bad_rows import BadRows
from bertft.data.cells import clean, text
from bertft.data.checks import check_labels, check_separator, joined_names
from bertft.data.columns import Asked, label_names, text_names
from bertft.data.forms.form import RowForm
from bertft.data.labels import FORMS, class_name, zero_or_one
from bertft.data.labels import Form as LabelForm
from bertft.errors import DataError, UsageError

__all__ = ["Form"]


class Form(RowForm):
    """Columns ``text``, maybe ``text_pair``, maybe ``label``.

    ``kind`` is what the label is: one of ``bertft.config.registry.LABELS``, as the task's
    description says.
    """

    texts = ("text", "text_pair")

    def __init__(self, config: DataConfig, labelled: bool) -> None:
        self.config = config
        self.kind = TASKS[config.task].label or "class"
        self.classes = self.kind != "number"
        self._notes: list[str] = []
        self._numbers: int | None = None  # 0: of lists that are numbers of classes
        names = text_names(config, ("text",))
        if len(names) not in (1, 2):
            raise UsageError(
                f"{len(names)} columns of text",
                where="data.text",
                hint="Name one, or two for pairs",
            )
        label = label_names(config, ("label",))
        if len(label) != 1 and self.kind != "classes":
            raise UsageError(
                f"{len(label)} columns of labels", where="data.label",
                hint="Name one; a list of 0/1 columns is for data.task=multi_label",
            )  # fmt: skip
        self.columns = Asked(names, label if labelled else ())
        self.label = self._label_form() if labelled else None
        fields = [(name, pa.large_string()) for name in self.texts[: len(names)]]
        if self.label is not None:
            fields.append(("label", self.label.kind))
        self.schema = fields

    def parse(self, fields: Sequence[Any], split: str) -> list[Any]:
        count = len(self.columns.text)
        row: list[Any] = [text(field) for field in fields[:count]]
        if self.label is not None:
            values = [_label(field) for field in fields[count:]]
            row.append(self.label.parse(values, self.config.label_separator))
        return row

    def class_names(self, table: pa.Table, own: list[str] | None) -> list[str] | None:
        if not self.classes:
            return None
        if self.model_classes is not None:
            return self.model_classes
        if self._by_column:
            return self._column_names()
        if self.config.labels is not None:
            return classes.listed(self.config.labels)
        return own if own is not None else classes.found(table)

    def settle(self, table: pa.Table, own: list[str] | None, bad: BadRows) -> pa.Table:
        """Of several labels: lists of 0 and 1 by name, and each name once."""
        column = "label" in table.column_names and table.num_rows
        if not column or self.kind != "classes" or self._by_column:
            return table
        places = self._places(table, bad)
        if places is None:
            return classes.without_repeats(table)
        labels = self.config.labels
        if not isinstance(labels, Sequence):
            raise DataError(
                f"each label is a list of {places} values 0 or 1, and nothing names the classes",
                where=bad.source,
                hint=f"Name them in the order of the list: data.labels with {places} names",
            )
        names = classes.listed(labels)
        if len(names) != places:
            raise DataError(
                f"each label is a list of {places} values 0 or 1; data.labels lists {len(names)}"
                " names", where=bad.source, hint=f"List {places} names in the order of the list",
            )  # fmt: skip
        self.mapping.update({f"place {number}": name for number, name in enumerate(names)})
        return classes.named_places(table, names)

    def _places(self, table: pa.Table, bad: BadRows) -> int | None:
        """The length of lists of 0 and 1; None: the lists have names or numbers of classes.

        The first split decides what lists of numbers mean; DataError where another one differs.
        """
        places = classes.multi_hot(table)
        if not classes.all_numbers(table):
            return None
        if self._numbers is None:
            self._numbers = places or 0
        if self._numbers and places != self._numbers:
            raise DataError(
                f"each label of the first split is a list of {self._numbers} values 0 or 1, those"
                " here are not", where=bad.source, hint="Write all splits alike",
            )  # fmt: skip
        return self._numbers or None

    def notes(self) -> list[str]:
        return self._notes

    def judge(self, table: pa.Table, own: list[str] | None, bad: BadRows) -> None:
        named = self.config.labels is not None or own is not None or self._by_column
        named = named or self.model_classes is not None
        check_labels(self.kind, self.config.task, table, named, bad)
        if self._by_column and self.model_classes is not None:
            names = self._column_names()
            lacking = [each for each in self.model_classes if each not in names]
            if lacking:
                self._notes.append(
                    f"data.label names no column for {listing(lacking, 4)}: all rows count as"
                    " without"
                )
        if named or not self.classes or not table.num_rows:
            return
        if remark := classes.look_alikes(classes.found(table)):
            self._notes.append(remark)
        if self.kind == "classes":
            check_separator(table, self.config.label_separator, bad, self._notes)
        else:
            joined = joined_names(classes.found(table))
            if joined is not None:
                self._notes.append(
                    f"names such as {joined[1]} contain {joined[0]!r}: rows with several labels"
                    f" need data.task=multi_label 'data.label_separator={joined[0]}'"
                )

    def stratified(self) -> bool:
        return self.kind == "class"

    def nothing_to_learn(self, table: pa.Table) -> str:
        if table.num_rows == 1:
            return ""
        values = table.column("label")
        if self.kind == "classes":
            some = pc.any(pc.greater(pc.list_value_length(values), 0)).as_py()
            return "" if some else "no row has a label"
        distinct = pc.unique(values)
        if len(distinct) > 1:
            return ""
        return f"all rows have the label {shortened(str(distinct[0].as_py()))}"

    def balance(self, table: pa.Table) -> dict[str, float]:
        """Class → share of the rows (of several labels: that have it); a number: its range."""
        values = table.column("label")
        if pa.types.is_floating(values.type):
            bounds = pc.min_max(values).as_py()
            return {"min": bounds["min"], "mean": pc.mean(values).as_py(), "max": bounds["max"]}
        return classes.shares(table)

    @property
    def _by_column(self) -> bool:
        """Whether each class has a 0/1 column of its own."""
        return (
            self.kind == "classes"
            and isinstance(self.config.label, Sequence)
            and (not isinstance(self.config.label, str))
        )

    def _label_form(self) -> LabelForm:
        form, labels = FORMS[self.kind], self.config.labels
        if self.classes and not self._by_column and labels is not None:
            known = set(classes.listed(labels))
            if isinstance(labels, Mapping):
                known |= classes.mapped(labels).keys()

            def parse(fields: Sequence[Any], separator: str) -> Any:
                # A name that looks like a list is a name where data.labels has it.
                field = fields[0]
                if not isinstance(field, str) or field.strip() not in known:
                    return form.parse(fields, separator)
                return class_name(field) if pa.types.is_string(form.kind) else [field.strip()]

            return dataclasses.replace(form, parse=parse)
        if not self._by_column:
            return form
        names = self._names_of_columns()
        return dataclasses.replace(
            form,
            parse=lambda fields, _: [
                name for name, field in zip(names, fields, strict=True) if zero_or_one(field)
            ],
        )

    def _names_of_columns(self) -> list[str]:
        """The class of each 0/1 column: of its own name, else in the order of data.labels.

        UsageError where data.labels has a column's name in another place, but not all of them.
        """
        names = self._column_names()
        columns = [class_name(name) or "" for name in self.config.label]
        if set(columns) == set(names):
            return columns
        places = {name.casefold(): place for place, name in enumerate(names)}
        for place, column in enumerate(columns):
            if places.get(column.casefold(), place) != place:
                other = names[places[column.casefold()]]
                raise UsageError(
                    f"names the column {quoted(column)} {quoted(names[place])}, although it also"
                    f" has {quoted(other)}", where="data.labels",
                    hint="Name each column of data.label once, in its order",
                )  # fmt: skip
        pairs = zip(columns, names, strict=True)
        self.mapping.update({f"column {column}": name for column, name in pairs if column != name})
        return names

    def _column_names(self) -> list[str]:
        """Class names of a list of 0/1 columns: data.labels, else the columns themselves."""
        if isinstance(self.config.labels, Mapping):
            raise UsageError(
                "a mapping does not name columns", where="data.labels",
                hint="Name each column of data.label once, in its order",
            )  # fmt: skip
        names = [class_name(name) or "" for name in self.config.labels or self.config.label]
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
