"""Rows with several labels: lists written as text, and lists of 0 and 1.

A list of labels is a list in the data, or text: names with data.label_separator between them, or a
list, tuple or set as JSON, Python or numpy write it.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertft.data.annotated_spans import is_spans
from bertft.data.labels import (
    class_name_as_number,
    replace_label_column,
    to_class_name,
    unwrap_choices,
)
from bertft.data.rows import RowError
from bertft.utils.messages import quote_value

__all__ = [
    "CLOSING_BRACKETS",
    "LABEL_LIST",
    "LABEL_SPANS",
    "are_labels_numeric",
    "deduplicate_labels",
    "multi_hot_to_names",
    "multi_hot_width",
    "parse_list",
    "parse_multiple_labels",
    "reject_several_labels",
]

LABEL_LIST = "label is a list"
LABEL_MAPPING = "label is a mapping"
LABEL_SPANS = "label is spans"
CLOSING_BRACKETS = ("]", ")", "}")  # how the text of a list, tuple, set or mapping ends
_ITEM_PATTERN = r"""('([^'\\]|\\.)*'|"([^"\\]|\\.)*"|[+-]?[0-9.]+|true|false|True|False)"""
_ITEMS_PATTERN = (
    rf"{_ITEM_PATTERN}([\s,]+{_ITEM_PATTERN})*[\s,]*"  # what numpy prints has no commas
)
_LIST_PATTERN = re.compile(
    rf"\[\s*({_ITEMS_PATTERN})?\]"
    rf"|\(\s*({_ITEM_PATTERN}\s*,[\s,]*({_ITEMS_PATTERN})?)?\)"  # (a) alone is a name
    rf"|\{{\s*({_ITEMS_PATTERN})\}}|\{{\s*\}}|set\(\)"
    r"|\[[^][]*,[^][]*\]",  # names without quotes: [a, b]
    re.DOTALL,
)
_MAPPING_PATTERN = re.compile(rf"\{{\s*{_ITEM_PATTERN}\s*:.*\}}", re.DOTALL)
_NUMBER_SET_PATTERN = re.compile(r"\{[\s,0-9.+-]+\}")  # class numbers or bits: ambiguous
# Python would concatenate 'a' 'b', which is how numpy prints two elements.
_LIST_ITEM = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[-+.\w]+)"""
_PYTHON_LIST = re.compile(
    rf"\[\s*(?:{_LIST_ITEM}(?:\s*,\s*{_LIST_ITEM})*(?:\s*,)?)?\s*\]", re.DOTALL
)


def parse_multiple_labels(fields: Sequence[Any], separator: str) -> list[str] | None:
    """The labels of a row: names between ``separator``, or a list, tuple or set (or its text).

    None if the label is missing; empty for a row without labels. Repeated names stay, because
    lists of 0 and 1 are detected only from all rows.
    """
    value = unwrap_choices(fields[0])
    if value is None:
        return None
    _reject_mapping(value)
    if isinstance(value, str) and _looks_like_list(value):
        value = _parse_label_list(value.strip())
    if isinstance(value, str):
        value = value.split(separator)
    items = value if isinstance(value, (list, tuple)) else [value]
    return [name for item in items if (name := to_class_name(item)) is not None]


def reject_several_labels(value: Any) -> None:
    """Raise RowError for a list, tuple, set or mapping of labels, for spans, or the text of one."""
    if is_spans(value):
        raise RowError(
            LABEL_SPANS,
            f"the label {quote_value(value)} is a list of spans of a text; spans are for"
            " data.task=token_classification",
        )
    _reject_mapping(value)
    if isinstance(value, (list, tuple)) or (isinstance(value, str) and _looks_like_list(value)):
        raise RowError(
            LABEL_LIST,
            f"the label {quote_value(value)} is a list; lists of labels are for"
            " data.task=multi_label",
        )


def _looks_like_list(text: str) -> bool:
    text = text.strip()
    return text.endswith(CLOSING_BRACKETS) and _LIST_PATTERN.fullmatch(text) is not None


def _reject_mapping(value: Any) -> None:
    text = value.strip() if isinstance(value, str) else ""
    if isinstance(value, dict) or (text.endswith("}") and _MAPPING_PATTERN.fullmatch(text)):
        raise RowError(
            LABEL_MAPPING,
            f"the label {quote_value(value)} is a mapping; write the names of the row's classes",
        )


def _parse_label_list(text: str) -> list[Any]:
    """A list in JSON's or Python's notation, or a tuple or set of names in Python's."""
    if text == "set()":
        return []
    items = None if _NUMBER_SET_PATTERN.fullmatch(text) else parse_list(f"[{text[1:-1]}]")
    if items is None:
        raise RowError(
            LABEL_LIST,
            f'the label {quote_value(text)} is not a valid list; write ["a", "b"]',
        )
    return items


def parse_list(value: str) -> list[Any] | None:
    """The list that a field contains in JSON or Python notation; None for any other text."""
    value = value.strip()
    if not (value.startswith("[") and value.endswith("]")):
        return None
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        if not _PYTHON_LIST.fullmatch(value):
            return None
        try:
            parsed = ast.literal_eval(value)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return None
    return parsed if isinstance(parsed, list) else None


def multi_hot_width(table: pa.Table) -> int | None:
    """The length of the labels if all are equally long lists of 0 and 1, else None."""
    values = table.column("label").drop_null()
    sizes = pc.unique(pc.list_value_length(values)).to_pylist()
    if len(sizes) != 1 or sizes[0] < 2:
        return None
    names = pc.unique(pc.list_flatten(values)).to_pylist()
    return int(sizes[0]) if all(_parse_bit(name) is not None for name in names) else None


def are_labels_numeric(table: pa.Table) -> bool:
    """Whether every item of the lists of labels is a number, true or false."""
    names = pc.unique(pc.list_flatten(table.column("label"))).to_pylist()
    return all(
        class_name_as_number(name) is not None or _parse_bit(name) is not None for name in names
    )


def multi_hot_to_names(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """Converts lists of 0 and 1 (one value per name in ``names``) to lists of names."""
    values = table.column("label").combine_chunks()
    flat = values.flatten().to_pylist()
    bits = np.fromiter((bool(_parse_bit(item)) for item in flat), bool, len(flat))
    valid = values.is_valid().to_numpy(zero_copy_only=False)
    grid = np.zeros((len(values), len(names)), dtype=bool)
    grid[valid] = bits.reshape(-1, len(names))
    offsets = np.concatenate([[0], np.cumsum(grid.sum(1))]).astype(np.int32)
    flat_names = pa.array(names, pa.string()).take(pa.array(np.nonzero(grid)[1]))
    column = pa.ListArray.from_arrays(pa.array(offsets), flat_names, mask=pa.array(~valid))
    return replace_label_column(table, column)


def deduplicate_labels(table: pa.Table) -> pa.Table:
    """The table with repeated names removed from each list of labels."""
    values = table.column("label")
    pairs = pa.table([pc.list_parent_indices(values), pc.list_flatten(values)], ["row", "name"])
    if pairs.group_by(["row", "name"]).aggregate([]).num_rows == pairs.num_rows:
        return table
    label_lists = [None if row is None else list(dict.fromkeys(row)) for row in values.to_pylist()]
    return replace_label_column(table, pa.array(label_lists, values.type))


def _parse_bit(name: str) -> bool | None:
    """The value of an entry of a multi-hot list; None if it is neither 0 nor 1."""
    if name in ("true", "false"):
        return name == "true"
    number = class_name_as_number(name)
    return bool(number) if number in (0, 1) else None
