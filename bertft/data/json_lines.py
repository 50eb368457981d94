"""Rows of JSON lines files: one object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, TextIO

from bertft.config.data import DataConfig
from bertft.config.messages import listing
from bertft.data.bad_rows import BadRows, Fault
from bertft.data.columns import Asked, find
from bertft.data.separated import Record
from bertft.data.sniff import RepeatedKey, json_document, unique_keys
from bertft.data.text_files import open_text, text_lines
from bertft.errors import DataError

__all__ = ["read_json_lines", "read_json_lines_file"]

_LOOKED_AT = 100  # objects whose keys together are the file's columns


def read_json_lines_file(
    path: Path, columns: Asked, config: DataConfig, bad: BadRows
) -> Iterator[Record]:
    """As ``read_json_lines``, of a file."""
    with open_text(path, config.encoding, "\n") as file:
        yield from read_json_lines(file, columns, config.encoding, bad)


def read_json_lines(file: TextIO, columns: Asked, encoding: str, bad: BadRows) -> Iterator[Record]:
    """The asked values of each object, None where it has no such key. Blank lines are no rows.

    What is no object goes to ``bad``. DataError for a key that none of the first objects has, a
    position in place of a key, a file without objects.
    """
    objects = _objects(text_lines(file, bad, encoding), bad)
    first = list(islice(objects, _LOOKED_AT))
    names = list(dict.fromkeys(key for _, content in first for key in content))
    if not first and not bad:
        raise DataError("the file is empty", where=bad.source)
    if first:
        for place, name in enumerate(columns.all):
            if isinstance(name, int):
                raise DataError(
                    f"{columns.setting(place)}={name}: JSON objects have no positions",
                    where=bad.source,
                    hint=f"Give a key: {listing(names)}",
                )
        columns = columns.among(names)
        find(columns, names, len(names), bad.source)
    for line, content in chain(first, objects):
        yield line, [content.get(str(name)) for name in columns.all]


def _objects(lines: Iterator[str], bad: BadRows) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            bad.count_blank()
            continue
        if not bad.read and json_document(line):
            name = "the input" if bad.source == "stdin" else "the file"
            raise DataError(
                f"{name} is one JSON document, not one object per line", where=bad.source,
                hint="Write each row on a line of its own: jq -c '.[]' rows.json > rows.jsonl",
            )  # fmt: skip
        bad.count_row()
        try:
            content = json.loads(line, object_pairs_hook=unique_keys)
        except RepeatedKey as error:
            bad.add(number, Fault("repeated key", str(error)))
            continue
        except (ValueError, RecursionError) as error:
            told = (
                "; other forms are read from a file, input=<file>" if bad.source == "stdin" else ""
            )
            bad.add(number, Fault("not JSON", f"not JSON ({error}){told}"))
            continue
        if isinstance(content, dict):
            yield number, content
        else:
            bad.add(number, Fault("not a JSON object"))
