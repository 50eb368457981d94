"""Rows of JSON Lines files: one object per line. Columns are keys; ``a.b`` is the key b in a.

A row can also be an array as in spaCy's training data: ``["EU rejects", {"entities": …}]`` is the
object ``{"text": "EU rejects", "entities": …}``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from bertft.config.data import DataConfig
from bertft.data.annotated_spans import is_spans
from bertft.data.readers.text_files import (
    RepeatedKeyError,
    iter_lines,
    open_text,
    reject_repeated_keys,
    starts_json_document,
)
from bertft.data.rows import BadRows, RowError
from bertft.data.schema import ColumnNotFound, ColumnSpec, ObjectKeys, Record, find_columns
from bertft.errors import DataError
from bertft.utils.messages import format_list, quote_value

__all__ = [
    "KEY_SAMPLE_OBJECTS",
    "NumberedObject",
    "as_object",
    "is_array_row",
    "object_keys",
    "parse_lines",
    "read_json_lines",
    "read_json_lines_file",
    "read_objects",
]

NumberedObject = tuple[int, dict[str, Any] | RowError]  # a row that is not an object has an error

KEY_SAMPLE_OBJECTS = 100  # the keys of these objects are the columns of the file
_MAX_KEYS, _MAX_KEY_DEPTH = 2_000, 5  # of nested objects


def read_json_lines_file(
    path: Path, columns: ColumnSpec, config: DataConfig, bad: BadRows
) -> Iterator[Record]:
    """``read_json_lines`` for a file."""
    with open_text(path, config.encoding, "\n") as file:
        yield from read_json_lines(file, columns, config.encoding, bad)


def read_json_lines(
    file: Iterable[str],
    columns: ColumnSpec,
    encoding: str,
    bad: BadRows,
    *,
    is_stream: bool = False,
) -> Iterator[Record]:
    """The requested values of the object on each line. Blank lines are not rows.

    Lines that are not objects are added to ``bad``. Raises DataError as ``read_objects``.
    """
    objects = parse_lines(iter_lines(file, bad, encoding), bad)
    return read_objects(objects, columns, bad, is_stream=is_stream)


def as_object(value: Any) -> dict[str, Any] | None:
    """The object of a row; ``[text, {…}]`` is an object with the key ``text``. None for others."""
    if isinstance(value, dict):
        return value
    is_annotated_text = isinstance(value, list) and [type(item) for item in value] == [str, dict]
    return {"text": value[0], **value[1]} if is_annotated_text else None


def is_array_row(line: str) -> bool:
    """Whether ``line`` is a row ``[text, {…}]``."""
    if not line.lstrip().startswith("["):
        return False
    try:
        return as_object(json.loads(line)) is not None
    except (ValueError, RecursionError):
        return False


def read_objects(
    objects: Iterator[NumberedObject], columns: ColumnSpec, bad: BadRows, *, is_stream: bool = False
) -> Iterator[Record]:
    """The requested values of each numbered object, None for a missing key.

    Errors in place of objects are added to ``bad`` in the order of the rows. ``is_stream``: no more
    objects are read ahead than needed to find the keys, because the next may come later.

    Raises:
        DataError: none of the first objects has a key, a column is a position and not a key, or
            there are no objects.
    """
    first_rows: list[NumberedObject] = []
    for number, content in islice(objects, KEY_SAMPLE_OBJECTS):
        if isinstance(content, RowError) and not first_rows:
            bad.add(number, content)
            continue
        first_rows.append((number, content))
        keys = object_keys([content] if isinstance(content, dict) else [])
        if is_stream and set(columns.resolve_alternatives(keys).text) <= set(keys):
            break
    if not first_rows and not bad.read:
        raise DataError("the file is empty", where=bad.source)
    first_objects = [content for _, content in first_rows if isinstance(content, dict)]
    names = object_keys(first_objects)
    if first_objects:
        _check_positions(columns, names, bad.source)
        columns = columns.resolve_alternatives(names)
        try:
            find_columns(columns, names, len(names), bad.source)
        except ColumnNotFound:
            _check_rows_in_key(first_objects, bad.source)
            raise
        if not is_stream:
            _check_columns_of_values(first_objects, columns, bad.source)
    requested = [str(name) for name in columns.all_columns]
    nested = set(names[names.top_level :]).intersection(requested)
    for number, content in chain(first_rows, objects):
        if isinstance(content, RowError):
            bad.add(number, content)
        elif not nested:
            yield number, [content.get(name) for name in requested]
        else:
            yield (
                number,
                [
                    _nested_value(name, content) if name in nested else content.get(name)
                    for name in requested
                ],
            )


def object_keys(objects: Sequence[Mapping[str, Any]]) -> ObjectKeys:
    """The keys of ``objects``, then those of objects in them."""
    top_level = dict.fromkeys(key for content in objects for key in content)
    nested: dict[str, None] = {}
    for content in objects:
        _add_nested_keys(content, "", nested, _MAX_KEY_DEPTH)
    keys = ObjectKeys([*top_level, *(name for name in nested if name not in top_level)])
    keys.top_level = len(top_level)
    return keys


def _add_nested_keys(
    content: Mapping[str, Any], prefix: str, names: dict[str, None], depth: int
) -> None:
    """Add the keys of the objects in ``content``, as ``review.text``, to ``names``."""
    for key, value in content.items():
        if isinstance(value, dict) and depth and len(names) < _MAX_KEYS:
            names |= dict.fromkeys(f"{prefix}{key}.{inner}" for inner in value)
            _add_nested_keys(value, f"{prefix}{key}.", names, depth - 1)


def _nested_value(name: str, content: Any) -> Any:
    """The value at ``name``, such as ``review.text``; a key can contain dots itself."""
    if not isinstance(content, dict):
        return None
    if name in content:
        return content[name]
    start = 0
    while (stop := name.find(".", start)) >= 0:
        value = _nested_value(name[stop + 1 :], content.get(name[:stop]))
        if value is not None:
            return value
        start = stop + 1
    return None


def _check_positions(columns: ColumnSpec, names: Sequence[str], source: str) -> None:
    """Raise DataError if a column is a position."""
    for index, name in enumerate(columns.all_columns):
        if isinstance(name, int):
            raise DataError(
                f"{columns.setting_of_column(index)}={name}: JSON objects have no positions",
                where=source,
                hint=f"Set a key: {format_list(names)}",
            )


def _check_rows_in_key(objects: Sequence[dict[str, Any]], source: str) -> None:
    """Raise DataError if there is one object, and the rows are a list in it."""
    if len(objects) > 1:
        return
    for key, value in objects[0].items():
        are_objects = isinstance(value, list) and all(as_object(row) is not None for row in value)
        if value and are_objects and not is_spans(value):
            raise DataError(
                f"there is one object, whose key {quote_value(key)} has a list of objects",
                where=source,
                hint=f"If they are the rows, write them alone: jq -c '.[{json.dumps(key)}][]'"
                " rows.json > rows.jsonl",
            )


def _check_columns_of_values(
    objects: Sequence[dict[str, Any]], columns: ColumnSpec, source: str
) -> None:
    """Raise DataError if there is one object that maps row numbers to values for each column."""
    content = objects[0]
    values = [content.get(str(name)) for name in columns.text + columns.label]
    if len(objects) == 1 and all(isinstance(value, dict) and "0" in value for value in values):
        raise DataError(
            "there is one object of columns, not one object per row",
            where=source,
            hint="With pandas, write the rows: df.to_json(path, orient='records')",
        )


def parse_lines(
    lines: Iterator[str], bad: BadRows, first_line: int = 1
) -> Iterator[NumberedObject]:
    """The object on each line, or the error of a line that has none. Blank lines are not rows.

    Raises DataError if the lines are one JSON document.
    """
    # Without arguments that are the same for each line, json.loads would create a decoder per line.
    decode = json.JSONDecoder(object_pairs_hook=reject_repeated_keys).decode
    for number, line in enumerate(lines, start=first_line):
        if line.isspace():
            bad.count_blank()
            continue
        if not bad.read and starts_json_document(line):
            name = "the input" if bad.source == "stdin" else "the file"
            raise DataError(
                f"{name} is one JSON document, not one object per line",
                where=bad.source,
                hint="Set data.format=json; a file can also be renamed to end in .json",
            )
        bad.count_row()
        try:
            content = decode(line)
        except RepeatedKeyError as error:
            yield number, RowError("repeated key", str(error))
        except (ValueError, RecursionError) as error:
            input_hint = "; for other formats set input=<file>" if bad.source == "stdin" else ""
            yield number, RowError("not JSON", f"not JSON ({error}){input_hint}")
        else:
            row = as_object(content)
            yield number, RowError("not a JSON object") if row is None else row
