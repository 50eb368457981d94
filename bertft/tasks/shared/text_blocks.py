"""Rows of texts and a label, parsed as whole columns.

Texts are checked by Arrow, and each value of the label is parsed once. A value that is not
certainly valid is left to ``TextRowSchema.parse``, which reports it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertft.data.column_blocks import ColumnBlock, array_values
from bertft.data.rows import RowError
from bertft.tasks.shared.joined_texts import TEXT_JOINT

__all__ = ["is_any_of", "parse_text_block"]

_MAX_TEXTS = 2  # more are joined row by row
# Whether a character whose first byte in UTF-8 is this one is certainly not white space: a visible
# ASCII character, or one from U+4000 on.
_BEGINS_TEXT = np.array([0x20 < byte < 0x7F or byte >= 0xE4 for byte in range(256)])
_TEXT_TYPES = (pa.types.is_string, pa.types.is_large_string)
_LABEL_TYPES = (
    *_TEXT_TYPES,
    pa.types.is_integer,
    pa.types.is_boolean,
    pa.types.is_float32,
    pa.types.is_float64,
)


def parse_text_block(
    block: ColumnBlock,
    text_count: int,
    parse_label: Callable[[Any], Any] | None = None,
    label_type: pa.DataType | None = None,
) -> tuple[list[pa.Array], np.ndarray] | None:
    """The columns and the valid rows, as ``RowSchema.parse_block``.

    Args:
        block: the texts, then the label, if there is ``parse_label``.
        text_count: the number of texts.
        parse_label: returns the label of a value, or raises RowError.
        label_type: of the labels.
    """
    texts, labels = block.columns[:text_count], block.columns[text_count:]
    label_count = int(parse_label is not None)
    if text_count > _MAX_TEXTS or len(labels) != label_count:
        return None
    if not all(map(_is_text, texts)):
        return None
    is_valid = np.ones(block.size, dtype=bool)
    arrays: list[pa.Array] = []
    for text in texts:
        assert text is not None
        is_valid &= _is_plain(text)
        if arrays:  # join_texts replaces the joint in the second text
            is_valid &= ~_contains(text, TEXT_JOINT)
        arrays.append(text.cast(pa.large_string()))
    if parse_label is not None:
        parsed = _parse_values(labels[0], parse_label, label_type)
        if parsed is None:
            return None
        arrays.append(parsed[0])
        is_valid &= parsed[1]
    return arrays, is_valid


def is_any_of(column: pa.Array, values: Collection[str]) -> np.ndarray:
    """Which texts of a column are one of ``values``, bool [rows]."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if not any(is_type(column.type) for is_type in _TEXT_TYPES):
        return np.zeros(len(column), dtype=bool)
    return _to_numpy(pc.is_in(column, pa.array(list(values), column.type)))


def _is_text(column: pa.Array | None) -> bool:
    """Whether a column has texts that are valid UTF-8, which Parquet does not ensure."""
    if column is None or not any(is_type(column.type) for is_type in _TEXT_TYPES):
        return False
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _is_plain(text: pa.Array) -> np.ndarray:
    """Which texts need no further check, bool [rows]: not null, not blank, without NUL bytes."""
    if not len(text):
        return np.ones(0, dtype=bool)
    offset_type = np.int64 if pa.types.is_large_string(text.type) else np.int32
    _, offset_buffer, value_buffer = text.buffers()
    offsets = np.frombuffer(offset_buffer, offset_type)[text.offset : text.offset + len(text) + 1]
    values = np.frombuffer(value_buffer or b"", np.uint8)[: offsets[-1]]
    is_plain = np.zeros(len(text), dtype=bool)
    has_bytes = np.diff(offsets) > 0
    is_plain[has_bytes] = _BEGINS_TEXT[values[offsets[:-1][has_bytes]]]
    unclear = np.flatnonzero(~is_plain)
    if len(unclear):
        candidates = text.take(pa.array(unclear))
        is_blank = pc.or_(pc.utf8_is_space(candidates), pc.equal(pc.binary_length(candidates), 0))
        is_plain[unclear] = ~_to_numpy(pc.fill_null(is_blank, True))
    if text.null_count:
        is_plain &= ~_to_numpy(text.is_null())
    if len(values) and not values[offsets[0] :].all():
        is_plain &= ~_contains(text, "\0")
    return is_plain


def _contains(text: pa.Array, pattern: str) -> np.ndarray:
    return _to_numpy(pc.fill_null(pc.match_substring(text, pattern), False))


def _to_numpy(array: pa.Array) -> np.ndarray:
    result: np.ndarray = array.to_numpy(zero_copy_only=False)
    return result


def _parse_values(
    column: pa.Array | None, parse: Callable[[Any], Any], arrow_type: pa.DataType | None
) -> tuple[pa.Array, np.ndarray] | None:
    """The parsed values, and which are valid; None for a type that is parsed row by row."""
    if column is None or not any(is_type(column.type) for is_type in _LABEL_TYPES):
        return None
    encoded = column.dictionary_encode()
    labels: list[Any] = []
    are_valid: list[bool] = []
    for value in array_values(encoded.dictionary):
        try:
            labels.append(parse(value))
            are_valid.append(True)
        except RowError:
            labels.append(None)
            are_valid.append(False)
    parsed = pa.array(labels, arrow_type).take(encoded.indices)
    is_valid = pa.array(are_valid, pa.bool_()).take(encoded.indices)
    return parsed, _to_numpy(pc.fill_null(is_valid, True))
