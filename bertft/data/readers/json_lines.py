"""Rows of JSON Lines files: one object per line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from bertft.config.data import DataConfig
from bertft.data.readers.text_files import (
    JSON_DOCUMENT_HINT,
    RepeatedKeyError,
    iter_lines,
    open_text,
    reject_repeated_keys,
    starts_json_document,
)
from bertft.data.rows import BadRows, RowError
from bertft.data.schema import ColumnSpec, Record, find_columns
from bertft.errors import DataError
from bertft.utils.messages import format_list

__all__ = ["read_json_lines", "read_json_lines_file"]

_KEY_SAMPLE_OBJECTS = 100  # the keys of these objects are the columns of the file


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
    """The requested values of each object, None for a missing key. Blank lines are not rows.

    Lines that are not objects are added to ``bad``. Raises DataError for a key that none of the
    first objects has, a position instead of a key, or a file without objects. ``is_stream``: no
    more objects are read ahead than needed to find the keys, because the next may come later.
    """
    objects = _read_objects(iter_lines(file, bad, encoding), bad)
    first_objects: list[tuple[int, dict[str, Any]]] = []
    for numbered_object in islice(objects, _KEY_SAMPLE_OBJECTS):
        first_objects.append(numbered_object)
        keys = list(numbered_object[1])
        if is_stream and set(columns.resolve_alternatives(keys).text) <= set(keys):
            break
    names = list(dict.fromkeys(key for _, content in first_objects for key in content))
    if not first_objects and not bad:
        raise DataError("the file is empty", where=bad.source)
    if first_objects:
        for index, name in enumerate(columns.all_columns):
            if isinstance(name, int):
                raise DataError(
                    f"{columns.setting_of_column(index)}={name}: JSON objects have no positions",
                    where=bad.source,
                    hint=f"Set a key: {format_list(names)}",
                )
        columns = columns.resolve_alternatives(names)
        find_columns(columns, names, len(names), bad.source)
    for line, content in chain(first_objects, objects):
        yield line, [content.get(str(name)) for name in columns.all_columns]


def _read_objects(lines: Iterator[str], bad: BadRows) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            bad.count_blank()
            continue
        if not bad.read and starts_json_document(line):
            name = "the input" if bad.source == "stdin" else "the file"
            raise DataError(
                f"{name} is one JSON document, not one object per line",
                where=bad.source,
                hint=JSON_DOCUMENT_HINT,
            )
        bad.count_row()
        try:
            content = json.loads(line, object_pairs_hook=reject_repeated_keys)
        except RepeatedKeyError as error:
            bad.add(number, RowError("repeated key", str(error)))
            continue
        except (ValueError, RecursionError) as error:
            input_hint = "; for other formats set input=<file>" if bad.source == "stdin" else ""
            bad.add(number, RowError("not JSON", f"not JSON ({error}){input_hint}"))
            continue
        if isinstance(content, dict):
            yield number, content
        else:
            bad.add(number, RowError("not a JSON object"))
