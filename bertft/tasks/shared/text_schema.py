"""Rows of one text or a pair of texts, with a label: a class, several classes or a number."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertft.config.choices import MAX_TEXT_COLUMNS
from bertft.config.data import DataConfig
from bertft.config.registry import TASKS
from bertft.data.column_blocks import ColumnBlock
from bertft.data.guess_columns import LABEL_COLUMN_NAMES
from bertft.data.labels import (
    NOT_BINARY,
    NOT_NUMERIC,
    class_shares,
    configured_class_names,
    configured_label_mapping,
    distinct_labels,
    format_similar_names,
    observed_classes,
    plain_number,
    to_class_name,
    unwrap_choices,
)
from bertft.data.rows import BadRows, RowError
from bertft.data.schema import (
    ANSWER_COLUMN,
    EXCLUDED_ANSWERS,
    ColumnSpec,
    LabelReader,
    RowSchema,
    check_characters,
    exclude_by_answer,
    label_columns,
    require_text,
    text_columns,
)
from bertft.errors import DataError, UsageError
from bertft.tasks.shared.joined_texts import join_texts
from bertft.tasks.shared.label_checks import (
    check_label_kind,
    check_label_separator,
    find_joined_names,
)
from bertft.tasks.shared.label_lists import (
    CLOSING_BRACKETS,
    are_labels_numeric,
    deduplicate_labels,
    multi_hot_to_names,
    multi_hot_width,
    parse_multiple_labels,
    reject_several_labels,
)
from bertft.tasks.shared.text_blocks import is_any_of, parse_text_block
from bertft.tasks.shared.word_splitting import words_to_text
from bertft.utils.messages import format_list, quote_value, shorten

__all__ = [
    "LABEL_PARSERS",
    "LabelParser",
    "TextRowSchema",
    "parse_number",
    "parse_zero_or_one",
]

_COLLECTIONS = (list, tuple, dict)


class TextRowSchema(RowSchema):
    """Columns ``text``, for pairs ``text_pair``, for labelled rows ``label``.

    ``text_pair`` has the texts of all columns but the first, joined by ``TEXT_JOINT``.

    ``label_kind``: one of ``bertft.config.registry.LABEL_KINDS``, from the task's registration.
    """

    text_fields = ("text", "text_pair")

    def __init__(self, config: DataConfig, labelled: bool) -> None:
        self.config = config
        self.label_kind = TASKS[config.task].label or "class"
        self.has_classes = self.label_kind != "number"
        names = text_columns(config, ("text",))
        if not 1 <= len(names) <= MAX_TEXT_COLUMNS:
            raise UsageError(
                f"expected 1 to {MAX_TEXT_COLUMNS} columns of text, got {len(names)}",
                where="data.text",
                hint="Set data.text=<column> or data.text=[<column>,<column>]",
            )
        label = label_columns(config, ("label",))
        if len(label) != 1 and self.label_kind != "classes":
            raise UsageError(
                f"expected one column of labels, got {len(label)}",
                where="data.label",
                hint="Set data.label=<column>; several 0/1 columns need data.task=multi_label",
            )
        group = (config.group,) if labelled and config.group is not None else ()
        is_answer_free = ANSWER_COLUMN not in (*names, *label, *group)
        answer = (ANSWER_COLUMN,) if labelled and is_answer_free else ()
        self.columns = ColumnSpec(names, label if labelled else (), (*group, *answer))
        self.group_field = "group" if group else None
        self.has_column_per_class = self.label_kind == "classes" and _is_list(config.label)
        # The class of each 0/1 column.
        self.column_classes = (
            _classes_of_columns(config) if labelled and self.has_column_per_class else []
        )
        self.label_parser = self._make_label_parser() if labelled else None
        fields = [(name, pa.large_string()) for name in self.text_fields[: len(names)]]
        if self.label_parser is not None:
            fields.append(("label", self.label_parser.arrow_type))
        if group:
            fields.append(("group", pa.large_string()))
        self.fields = fields

    def parse(self, fields: Sequence[Any], split: str, ignored: list[str]) -> list[Any]:
        count = len(self.columns.text)
        end = count + len(self.columns.label)
        optional = dict(zip(self.columns.optional, fields[end:], strict=False))
        exclude_by_answer(optional.pop(ANSWER_COLUMN, None))
        row: list[Any] = [require_text(words_to_text(fields[0]))]
        if count > 1:
            row.append(join_texts([self._second_text(field) for field in fields[1:count]]))
        if self.label_parser is not None:
            values = [_clean_label(field) for field in fields[count:end]]
            row.append(self.label_parser.parse(values, self.config.label_separator))
            row += [self._parse_group(value, split) for value in optional.values()]
        return row

    def parse_block(self, block: ColumnBlock) -> tuple[list[pa.Array], np.ndarray] | None:
        count, parser = len(self.columns.text), self.label_parser
        is_supported = (
            type(self).parse is TextRowSchema.parse
            and not (count > 1 and self.config.empty_second)
            and self.group_field is None
        )
        if not is_supported:
            return None
        if parser is None:
            return parse_text_block(block, count)
        separator, parse = self.config.label_separator, parser.parse
        has_answer = ANSWER_COLUMN in self.columns.optional
        values = dataclasses.replace(block, columns=block.columns[:-1]) if has_answer else block
        parsed = parse_text_block(
            values, count, lambda value: parse([_clean_label(value)], separator), parser.arrow_type
        )
        if parsed is None or not has_answer or block.columns[-1] is None:
            return parsed
        arrays, is_valid = parsed
        return arrays, is_valid & ~is_any_of(block.columns[-1], EXCLUDED_ANSWERS)

    def _parse_group(self, value: Any, split: str) -> str | None:
        """The value of data.group as text. Raises RowError for a training row without one."""
        name = value if isinstance(value, str) else to_class_name(value)
        if name is not None and name.strip():
            return check_characters(name, "group")
        if split == "train":
            detail = f"the column {self.config.group!r} of data.group is empty or does not exist"
            raise RowError("missing group", detail)
        return None

    def _second_text(self, value: Any) -> str:
        value = words_to_text(value)
        is_empty = value is None or (isinstance(value, str) and not value.strip())
        return "" if is_empty and self.config.empty_second else require_text(value)

    def is_stratified(self) -> bool:
        return self.label_kind == "class" and self.group_field is None

    def label_statistics(self, table: pa.Table) -> dict[str, float]:
        """Class → fraction of the rows that have it; for numbers min, mean and max."""
        values = table.column("label")
        if pa.types.is_floating(values.type):
            bounds = pc.min_max(values).as_py()
            return {"min": bounds["min"], "mean": pc.mean(values).as_py(), "max": bounds["max"]}
        return class_shares(table)

    def label_reader(self, model_classes: list[str] | None = None) -> LabelReader:
        return _TextLabelReader(self, model_classes)

    def _make_label_parser(self) -> LabelParser:
        parser, labels = LABEL_PARSERS[self.label_kind], self.config.labels
        if self.has_column_per_class:
            return dataclasses.replace(parser, parse=self._parse_class_columns)
        if not self.has_classes or labels is None:
            return parser
        known_names = set(configured_class_names(labels))
        if isinstance(labels, Mapping):
            known_names |= configured_label_mapping(labels).keys()

        def parse(fields: Sequence[Any], separator: str) -> Any:
            # A label that looks like a list is a name if data.labels contains it.
            field = fields[0]
            if not isinstance(field, str) or field.strip() not in known_names:
                return parser.parse(fields, separator)
            return [field.strip()] if self.label_kind == "classes" else to_class_name(field)

        return dataclasses.replace(parser, parse=parse)

    def _parse_class_columns(self, fields: Sequence[Any], separator: str) -> list[str]:
        return [
            name
            for name, field in zip(self.column_classes, fields, strict=True)
            if parse_zero_or_one(field)
        ]


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _columns_as_names(config: DataConfig) -> list[str]:
    return [to_class_name(name) or "" for name in config.label]


def _configured_column_classes(config: DataConfig) -> list[str]:
    """The classes of 0/1 columns, in the order of the model: data.labels, else the columns."""
    hint = "Name each column of data.label once, in its order"
    if isinstance(config.labels, Mapping):
        raise UsageError(
            "a mapping is not supported with several label columns", where="data.labels", hint=hint
        )
    names = [to_class_name(name) or "" for name in config.labels or config.label]
    if len(names) != len(config.label):
        raise UsageError(
            f"has {len(names)} names, but data.label has {len(config.label)} columns",
            where="data.labels",
            hint=hint,
        )
    return names


def _classes_of_columns(config: DataConfig) -> list[str]:
    """The class of each 0/1 column: by its name, else by its position in data.labels.

    UsageError if data.labels has the name of a column at another position, but not all names.
    """
    names, columns = _configured_column_classes(config), _columns_as_names(config)
    if set(columns) == set(names):
        return columns
    positions = {name.casefold(): number for number, name in enumerate(names)}
    for position, column in enumerate(columns):
        if positions.get(column.casefold(), position) != position:
            other_name = names[positions[column.casefold()]]
            raise UsageError(
                f"name {position + 1} is {quote_value(names[position])}, but column"
                f" {position + 1} of data.label is {quote_value(column)}, and"
                f" {quote_value(other_name)} is at another position",
                where="data.labels",
                hint="Name each column of data.label once, in its order",
            )
    return names


class _TextLabelReader(LabelReader):
    def __init__(self, schema: TextRowSchema, model_classes: list[str] | None) -> None:
        super().__init__(model_classes)
        self.schema, self.config = schema, schema.config
        self._multi_hot_width: int | None = None  # 0: the lists contain class numbers
        if schema.column_classes:
            pairs = zip(_columns_as_names(schema.config), schema.column_classes, strict=True)
            self.label_mapping |= {
                f"column {column}": name for column, name in pairs if column != name
            }

    def class_names(self, table: pa.Table, declared_classes: list[str] | None) -> list[str] | None:
        if not self.schema.has_classes:
            return None
        if self.model_classes is not None:
            return self.model_classes
        if self.schema.has_column_per_class:
            return _configured_column_classes(self.config)
        if self.config.labels is not None:
            return configured_class_names(self.config.labels)
        return declared_classes if declared_classes is not None else observed_classes(table)

    def name_binary_column(self, names: Sequence[str]) -> list[str] | None:
        column = self.config.label
        is_named = isinstance(column, str) and column.casefold() not in LABEL_COLUMN_NAMES
        is_open = self.config.labels is None and self.model_classes is None
        if self.schema.label_kind != "class" or not (is_named and is_open):
            return None
        name = to_class_name(column) if is_named and list(names) == ["0", "1"] else None
        return None if name is None else [f"not {name}", name]

    def normalize(
        self, table: pa.Table, declared_classes: list[str] | None, bad: BadRows
    ) -> pa.Table:
        """For several labels: converts lists of 0 and 1 to names, and removes repeated names."""
        has_labels = "label" in table.column_names and table.num_rows
        if (
            not has_labels
            or self.schema.label_kind != "classes"
            or self.schema.has_column_per_class
        ):
            return table
        width = self._detect_multi_hot_width(table, bad)
        if width is None:
            return deduplicate_labels(table)
        labels = self.config.labels
        if not isinstance(labels, Sequence):
            raise DataError(
                f"each label is a list of {width} values 0 or 1, and the classes have no names",
                where=bad.source,
                hint=f"Set data.labels to {width} names, in the order of the list",
            )
        names = configured_class_names(labels)
        if len(names) != width:
            raise DataError(
                f"each label is a list of {width} values 0 or 1, but data.labels has"
                f" {len(names)} names",
                where=bad.source,
                hint=f"Set data.labels to {width} names, in the order of the list",
            )
        self.label_mapping.update({f"position {number}": name for number, name in enumerate(names)})
        return multi_hot_to_names(table, names)

    def _detect_multi_hot_width(self, table: pa.Table, bad: BadRows) -> int | None:
        """The length of lists of 0 and 1; None if the lists contain class names or class numbers.

        The first split decides what lists of numbers mean; DataError if another split differs.
        """
        width = multi_hot_width(table)
        if not are_labels_numeric(table):
            return None
        if self._multi_hot_width is None:
            self._multi_hot_width = width or 0
        if self._multi_hot_width and width != self._multi_hot_width:
            raise DataError(
                f"each label of the first split is a list of {self._multi_hot_width} values 0 or 1,"
                " but the labels of this one are not",
                where=bad.source,
                hint="Write the labels of all splits in the same format",
            )
        return self._multi_hot_width or None

    def check_types(
        self, table: pa.Table, declared_classes: list[str] | None, bad: BadRows
    ) -> None:
        known_classes = (self.config.labels, declared_classes, self.model_classes)
        are_classes_known = self.schema.has_column_per_class or any(
            classes is not None for classes in known_classes
        )
        check_label_kind(
            self.schema.label_kind,
            self.config.task,
            table,
            are_classes_known,
            bad,
            self.config.max_skipped,
        )
        if self.schema.has_column_per_class and self.model_classes is not None:
            names = _configured_column_classes(self.config)
            missing = [name for name in self.model_classes if name not in names]
            if missing:
                self.notes.append(
                    f"data.label has no column for {format_list(missing, 4)}: no row has these"
                    " labels"
                )
        if are_classes_known or not self.schema.has_classes or not table.num_rows:
            return
        if note := format_similar_names(observed_classes(table)):
            self.notes.append(note)
        if self.schema.label_kind == "classes":
            check_label_separator(table, self.config.label_separator, bad, self.notes)
        else:
            joined = find_joined_names(observed_classes(table))
            if joined is not None:
                self.notes.append(
                    f"names such as {joined[1]} contain {joined[0]!r}: rows with several labels"
                    f" need data.task=multi_label 'data.label_separator={joined[0]}'"
                )

    def nothing_to_learn(self, table: pa.Table) -> str:
        if table.num_rows == 1:
            return ""
        if self.schema.label_kind == "classes":
            sizes = pc.list_value_length(table.column("label"))
            any_label = pc.any(pc.greater(sizes, 0)).as_py()
            return "" if any_label else "no row has a label"
        distinct = distinct_labels(table)
        if len(distinct) > 1:
            return ""
        return f"all rows have the label {shorten(str(distinct[0]))}"


@dataclass(frozen=True)
class LabelParser:
    """How labels are read: ``parse`` converts those of one row, ``arrow_type`` stores them."""

    arrow_type: pa.DataType
    parse: Callable[[Sequence[Any], str], Any]  # (fields, separator) → label, None if missing


def _parse_single_label(value: Any) -> str | None:
    """The name of one class, which can be the only item of a list, as in files of annotation tools.

    Raises RowError for any other list, tuple, set or mapping, and for the text of one.
    """
    value = unwrap_choices(value)
    if isinstance(value, (list, tuple)) and len(value) == 1:
        value = value[0] if isinstance(value[0], (str, int)) else value
    is_text = isinstance(value, str)
    if value.rstrip().endswith(CLOSING_BRACKETS) if is_text else isinstance(value, _COLLECTIONS):
        reject_several_labels(value)
    return to_class_name(value)


def parse_number(value: Any) -> float | None:
    """A finite number, from a number or its text."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        # float() accepts 1_000, but in a file it is a name.
        not_a_number = isinstance(value, bool) or (isinstance(value, str) and "_" in value)
        result = math.nan if not_a_number else float(value)
    except (TypeError, ValueError, OverflowError):
        result = math.nan
    if not math.isfinite(result):
        plain = plain_number(value) if isinstance(value, str) else None
        if plain is not None:
            detail = f"the label {quote_value(value)} is not a plain number: write {plain}"
            raise RowError(NOT_NUMERIC, detail)
        raise RowError(NOT_NUMERIC, f"the label {quote_value(value)} is not a finite number")
    return result


def parse_zero_or_one(value: Any) -> bool:
    """0 or 1 as a bool, from 1, 1.0, true and so on. Raises RowError for anything else."""
    text = str(value).strip().lower()
    if text in ("1", "1.0", "true"):
        return True
    if text in ("0", "0.0", "false"):
        return False
    raise RowError(NOT_BINARY, f"the label {quote_value(value)} is not 0 or 1")


LABEL_PARSERS = {
    "class": LabelParser(pa.string(), lambda fields, _: _parse_single_label(fields[0])),
    "number": LabelParser(pa.float64(), lambda fields, _: parse_number(fields[0])),
    "classes": LabelParser(pa.list_(pa.string()), parse_multiple_labels),
}


def _clean_label(value: Any) -> Any:
    if isinstance(value, list):
        return [_clean_label(item) for item in value]
    return check_characters(value, "label") if isinstance(value, str) else value
