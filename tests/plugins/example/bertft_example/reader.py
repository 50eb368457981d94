"""Files that end in .reviews: one row per line, ``stars :: text``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bertft.config.data import DataConfig
from bertft.data.readers.text_files import iter_lines, open_text
from bertft.data.rows import BadRows, RowError
from bertft.data.schema import ColumnSpec, find_columns

__all__ = ["read_reviews"]

_COLUMNS = ("label", "text")


def read_reviews(
    path: Path, columns: ColumnSpec, config: DataConfig, bad: BadRows
) -> Iterator[tuple[int, list[Any]]]:
    """(line, the requested ones of label and text)."""
    places = find_columns(columns, _COLUMNS, len(_COLUMNS), bad.source)
    with open_text(path, config.encoding, "\n") as file:
        for number, line in enumerate(iter_lines(file, bad, config.encoding), start=1):
            bad.count_row()
            label, separator, text = line.rstrip("\r\n").partition(" :: ")
            if separator:
                fields = (label, text)
                yield number, [None if folder is None else fields[folder] for folder in places]
            else:
                bad.add(number, RowError("no ' :: ' in the line"))
