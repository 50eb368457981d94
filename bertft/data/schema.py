"""Row schemas: the columns of a task's rows, and how they are found in a file."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from bertft.config.choices import DERIVED_COLUMNS
from bertft.config.data import DataConfig
from bertft.config.registry import TASKS
from bertft.data.column_blocks import ColumnBlock
from bertft.data.rows import UNDECODABLE, BadRows, RowError, RowExclusion
from bertft.errors import DataError, UsageError
from bertft.utils.messages import (
    closest_name,
    describe_value,
    format_list,
    join_problems,
    quote_value,
)

__all__ = [
    "ANSWER_COLUMN",
    "EXCLUDED_ANSWERS",
    "ColumnName",
    "ColumnNotFound",
    "ColumnSpec",
    "LabelReader",
    "ObjectKeys",
    "ReadBlocksFunction",
    "ReadFunction",
    "Record",
    "RowSchema",
    "build_row_schema",
    "check_characters",
    "exclude_by_answer",
    "find_columns",
    "label_columns",
    "require_text",
    "sentence_columns",
    "text_columns",
]
ANSWER_COLUMN = "answer"  # of Prodigy
EXCLUDED_ANSWERS = {"reject": "rejected by the annotator", "ignore": "ignored by the annotator"}
_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")
_MAX_COMPARED = 1_000  # columns searched for the closest name

ColumnName = str | int
Record = tuple[int, list[Any]]  # the line that a row starts on, and its requested fields


def require_text(value: Any, field_name: str = "text") -> str:
    """``value`` as a non-blank string. Raises RowError, which contains ``field_name``."""
    if value is None or value == "" or (isinstance(value, str) and value.isspace()):
        raise RowError(f"empty {field_name}")
    if not isinstance(value, str):
        raise RowError(
            f"{field_name} is not a string",
            f"the {field_name} is {describe_value(value)}, not a string",
        )
    return check_characters(value, field_name)


def exclude_by_answer(answer: object) -> None:
    """Raise RowExclusion if ``answer``, the annotator's decision in Prodigy, is not to accept.

    Other values are no decisions.
    """
    if isinstance(answer, str) and answer in EXCLUDED_ANSWERS:
        raise RowExclusion(EXCLUDED_ANSWERS[answer])


def check_characters(value: str, field_name: str) -> str:
    """``value``, if it has no NUL byte and can be encoded as UTF-8. Raises RowError otherwise."""
    if "\0" in value:
        raise RowError("NUL byte", f"the {field_name} contains a NUL byte")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            if _ESCAPED_BYTE.search(value):
                raise RowError(UNDECODABLE, f"the {field_name} contains {UNDECODABLE}") from error
            raise RowError(
                "unpaired surrogate", f"the {field_name} contains an unpaired surrogate"
            ) from error
    return value


class RowSchema(ABC):
    """The rows of a task: which ``columns`` are read, and the ``fields`` that a row is parsed into.

    A schema is a description: it does not change while rows are read. ``label_reader`` returns the
    object with the state of one data set. The table of rows also has the column ``line``. Labelled
    rows have ``label``, null if missing.
    """

    text_fields: ClassVar[tuple[str, ...]]  # rows with equal text columns are duplicates
    label_fields: ClassVar[tuple[str, ...]] = ("label",)  # absent in rows to predict
    group_field: str | None = None  # rows with the same value are held out together
    # Formats of file extensions that other tasks read as another format.
    formats_by_extension: Mapping[str, str] = {}
    # Functions that replace those of the registered readers, by format.
    readers: Mapping[str, ReadFunction] = {}
    # For files without an extension, and for unknown extensions if data.separator is set.
    default_format: str | None = None
    missing_label_hint: ClassVar[str] = "Check that data.label is the column of the labels"

    has_classes: bool = False  # whether labels are class names
    columns: ColumnSpec
    fields: Sequence[tuple[str, pa.DataType]]

    @abstractmethod
    def __init__(self, config: DataConfig, labelled: bool) -> None: ...

    @property
    def arrow_schema(self) -> pa.Schema:
        """The schema of a table of rows: ``fields``, and the line on which each row starts."""
        return pa.schema([*self.fields, ("line", pa.int64())])

    @abstractmethod
    def parse(self, fields: Sequence[Any], split: str, ignored: list[str]) -> list[Any]:
        """The values of one row. Raises RowError for a row that is not valid in ``split``.

        For a value that is ignored although the row is used, the reason is added to ``ignored``.
        """

    def parse_block(self, block: ColumnBlock) -> tuple[list[pa.Array], np.ndarray] | None:
        """(an array per field, whether each row is certainly valid) of the rows of a block.

        The values of valid rows are those of ``parse``. None: the rows have to be parsed one by
        one.
        """
        return None

    def label_reader(self, model_classes: list[str] | None = None) -> LabelReader:
        """The reader of the labels of one data set; arguments as for ``LabelReader``."""
        return LabelReader(model_classes)

    def is_stratified(self) -> bool:
        """Whether held-out validation rows are stratified by class."""
        return False

    @abstractmethod
    def label_statistics(self, table: pa.Table) -> dict[str, float]:
        """Label statistics shown before training: name → fraction or value."""

    def missing_classes(self, classes: Sequence[str], occurring: Collection[str]) -> list[str]:
        """The ``classes`` that no row has, given those that occur."""
        return [name for name in classes if name not in occurring]


class LabelReader:
    """The labels of all splits of one data set; the first split decides how the others are read.

    Args:
        model_classes: the classes of a model that is already trained, in the order of its logits.

    Attributes:
        label_mapping: label of a file → class, for every label that is read as another text.
        notes: notes about the labels, shown before training.
    """

    def __init__(self, model_classes: list[str] | None) -> None:
        self.model_classes = model_classes
        self.label_mapping: dict[str, str] = {}
        self.notes: list[str] = []

    def check_types(
        self, table: pa.Table, declared_classes: list[str] | None, bad: BadRows
    ) -> None:
        """Raise DataError if the labels of the first split are not of the kind of the task.

        ``declared_classes`` are the classes that the source declares.
        """

    def normalize(
        self, table: pa.Table, declared_classes: list[str] | None, bad: BadRows
    ) -> pa.Table:
        """The rows of a split with labels in their final form; others are added to ``bad``.

        Called for the first split first.
        """
        return table

    def class_names(self, table: pa.Table, declared_classes: list[str] | None) -> list[str] | None:
        """The classes in order, from the first split and the source's ``declared_classes``.

        None for a task without classes.
        """
        return None

    def name_binary_column(self, names: Sequence[str]) -> list[str] | None:
        """A list as in data.labels that names the classes ``names`` after the label column.

        Only for a column of 0 and 1 whose name says what 1 means, such as ``toxic``; else None.
        """
        return None

    def nothing_to_learn(self, table: pa.Table) -> str:
        """Why nothing can be learned from the training rows; empty if something can."""
        return ""


def build_row_schema(config: DataConfig, labelled: bool = True) -> RowSchema:
    """The schema of data.task; ``labelled`` False: rows to predict. Raises UsageError."""
    schema: RowSchema = TASKS.implementation(config.task, "row_schema")(config, labelled)
    return schema


@dataclass(frozen=True)
class ColumnSpec:
    """The columns that are read from a file, by name or by position from 0.

    Attributes:
        text: one or more columns.
        label: none, one or many columns.
        optional: columns whose values are None if the file does not have them.
        text_alternatives: if the first text column does not exist, the first of these names that
            exists is used.
        label_alternatives: the same for the first label column.
    """

    text: tuple[ColumnName, ...]
    label: tuple[ColumnName, ...]
    optional: tuple[str, ...] = ()
    text_alternatives: tuple[str, ...] = ()
    label_alternatives: tuple[str, ...] = ()

    @property
    def all_columns(self) -> tuple[ColumnName, ...]:
        return self.text + self.label + self.optional

    @property
    def has_names(self) -> bool:
        """Whether any column of the file is requested by name."""
        columns = self.text + self.without_derived().label
        return any(isinstance(column, str) for column in columns)

    def without_derived(self) -> ColumnSpec:
        """The columns that are in the file; the others are derived from its name."""
        label = tuple(name for name in self.label if name not in DERIVED_COLUMNS)
        optional = tuple(name for name in self.optional if name not in DERIVED_COLUMNS)
        return replace(self, label=label, optional=optional)

    def resolve_alternatives(self, names: Sequence[str] | None) -> ColumnSpec:
        """The columns to read from a file with the columns ``names``."""
        if names is None:
            return self
        text = _use_alternative(self.text, self.text_alternatives, names)
        label = _use_alternative(self.label, self.label_alternatives, names)
        return (
            self
            if (text, label) == (self.text, self.label)
            else replace(self, text=text, label=label)
        )

    def setting_of_column(self, index: int) -> str:
        """The setting that requests column number ``index`` of ``all_columns``."""
        return "data.text" if index < len(self.text) else "data.label"


def _use_alternative(
    columns: tuple[ColumnName, ...], alternatives: Sequence[str], names: Sequence[str]
) -> tuple[ColumnName, ...]:
    """``columns``, whose first one is replaced by an alternative if it is not in ``names``."""
    if not columns or not alternatives or columns[0] in names:
        return columns
    alternative = next((name for name in alternatives if name in names), None)
    return columns if alternative is None else (alternative, *columns[1:])


class ObjectKeys(list[str]):
    """Names of the columns of JSON objects: their keys, then those of nested objects.

    Attributes:
        top_level: the number of keys of the objects themselves, which come first.
    """

    top_level = 0


ReadFunction = Callable[[Path, ColumnSpec, DataConfig, BadRows], Iterator[Record]]
ReadBlocksFunction = Callable[
    [Path, ColumnSpec, DataConfig, BadRows], Iterator[Record | ColumnBlock]
]


class ColumnNotFound(DataError):
    """A requested column is not in a file with names of columns.

    Attributes:
        only_labels_missing: only labels are missing, and no column has a similar name.
        names: the columns of the file; empty if their names cannot be decoded.
        missing: the settings of the missing columns.
        separator: the character between the names, if the only column has the names of several.
        path: the file, if it is one of a split.
    """

    only_labels_missing = False
    names: Sequence[str] = ()
    missing: Sequence[str] = ()
    separator: str | None = None
    path: Path | None = None


def text_columns(config: DataConfig, default: tuple[ColumnName, ...]) -> tuple[ColumnName, ...]:
    """The columns of data.text. Raises UsageError for an invalid name."""
    return default if config.text is None else _parse_column_names(config.text, "data.text")


def label_columns(config: DataConfig, default: tuple[ColumnName, ...]) -> tuple[ColumnName, ...]:
    """The columns of data.label. Raises UsageError for an invalid name."""
    return default if config.label is None else _parse_column_names(config.label, "data.label")


def sentence_columns(config: DataConfig) -> tuple[ColumnName, ...]:
    """The columns of data.sentence. Raises UsageError for an invalid name."""
    return _parse_column_names(config.sentence, "data.sentence")


def _parse_column_names(value: Any, where: str) -> tuple[ColumnName, ...]:
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    names = tuple(value) if is_list else (value,)
    for name in names:
        if isinstance(name, bool) or not isinstance(name, (str, int)) or name == "":
            raise UsageError(
                f"{name!r} is neither a column name nor a position",
                where=where,
                hint="Set a name, or a position counted from 0",
            )
    if len(set(names)) != len(names):
        raise UsageError(
            f"duplicate columns in {list(names)}", where=where, hint="List each column once"
        )
    return names


def find_columns(
    columns: ColumnSpec, names: Sequence[str] | None, count: int, source: str
) -> list[int | None]:
    """Positions of the requested columns among ``count`` columns; ``names`` None: no header.

    None for an optional column that does not exist. Raises DataError for missing columns, with the
    closest names or the valid positions.
    """
    columns = columns.resolve_alternatives(names)
    positions: list[int | None] = []
    errors: list[DataError] = []
    for index, name in enumerate(columns.text + columns.label):
        try:
            positions.append(
                _find_column(name, names, count, columns.setting_of_column(index), source)
            )
        except DataError as error:
            errors.append(error)
    if len(errors) > 1 and names is not None and count > 1:
        joined = ColumnNotFound(join_problems(errors))
        joined.names = names if all(isinstance(error, ColumnNotFound) for error in errors) else ()
        joined.missing = [
            name for error in errors if isinstance(error, ColumnNotFound) for name in error.missing
        ]
        raise joined
    if errors:  # without names, or with a single column, the first error is enough
        raise errors[0]
    known_names = list(names or ())
    for column in columns.optional:
        if known_names.count(column) > 1 and column != ANSWER_COLUMN:
            raise DataError(
                f"{known_names.count(column)} columns have the name {column!r}",
                where=source,
                hint="Rename or remove one",
            )
    return positions + [
        _find_optional_column(column, known_names, positions) for column in columns.optional
    ]


def _find_optional_column(
    column: str, names: Sequence[str], requested: Sequence[int | None]
) -> int | None:
    """The position of an optional column, None if there is none.

    The column of answers is not read if it is already ``requested``, or if its name is ambiguous.
    """
    if column not in names:
        return None
    position = names.index(column)
    is_other = column == ANSWER_COLUMN and (position in requested or names.count(column) > 1)
    return None if is_other else position


def _find_column(
    name: ColumnName, names: Sequence[str] | None, count: int, setting: str, source: str
) -> int:
    if isinstance(name, int):
        if -count <= name < count:
            return name % count
        known = "" if names is None else f" ({format_list(_printable(names))})"
        raise DataError(
            f"{setting}={name}, but the columns are numbered from 0 to {count - 1}{known}",
            where=source,
        )
    if names is None:
        raise DataError(
            f"{setting}={name} is a name, but the file has no header",
            where=source,
            hint="Set a position counted from 0, or data.header=true",
        )
    positions = [position for position, column in enumerate(names) if column == name]
    if len(positions) == 1:
        return positions[0]
    if positions:
        raise DataError(
            f"{len(positions)} columns have the name {name!r}",
            where=source,
            hint=f"Set {setting} to a position: {' or '.join(map(str, positions))}",
        )
    raise _column_not_found_error(name, names, setting, source)


def _column_not_found_error(
    name: str, names: Sequence[str], setting: str, source: str
) -> DataError:
    printable_names = _printable(names)
    closest = closest_name(name, printable_names[:_MAX_COMPARED])
    if len(printable_names) == 1:
        separator = next((mark for mark in ";\t|," if mark in printable_names[0]), None)
        if separator is not None:
            shown = "\\t" if separator == "\t" else separator
            error = ColumnNotFound(
                f"{setting}: column {name!r} not found; the only column is"
                f" {quote_value(printable_names[0])}",
                where=source,
                hint=f"Are its columns separated by {shown!r}? Then set 'data.separator={shown}'",
            )
            error.names, error.missing, error.separator = names, [setting], separator
            return error
    hint = f"Did you mean {closest!r}?" if closest is not None else f"Set {setting}=<column>"
    if printable_names != list(names):
        hint = "The names contain bytes that are not valid in data.encoding: set data.encoding"
    error = ColumnNotFound(
        f"{setting}: column {name!r} not found (columns:"
        f" {format_list(map(quote_value, printable_names)) or 'none'})",
        where=source,
        hint=hint,
    )
    if printable_names == list(names):
        error.names, error.missing = names, [setting]
    error.only_labels_missing = (
        setting == "data.label" and closest is None and printable_names == list(names)
    )
    return error


def _printable(names: Sequence[str]) -> list[str]:
    """Column names with bytes outside the encoding escaped."""
    return [name.encode("utf-8", "backslashreplace").decode() for name in names]
