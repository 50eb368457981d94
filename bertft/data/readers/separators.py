"""The character between the columns of CSV and TSV files: configured, stated or detected.

data.separator=;               configured
sep=;                          stated by the first line, for Excel
text;label                     detected, if only this character separates the requested names
text,label                     the default of the format
"""

from __future__ import annotations

import contextlib
import csv
import re
from collections.abc import Collection, Sequence

from bertft.config.data import DataConfig
from bertft.data.schema import ColumnSpec
from bertft.errors import DataError

__all__ = [
    "SEPARATORS",
    "SEPARATOR_NAMES",
    "detect_separator",
    "parse_separator_line",
    "resolve_quoting",
    "resolve_separator",
    "separator_of_header",
    "split_header",
]

SEPARATORS = (",", "\t", ";", "|")
SEPARATOR_NAMES = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "vertical bars"}
# A first line for Excel, which pads it with separators when it saves the file again.
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\1*[ ]*', re.IGNORECASE)


def parse_separator_line(line: str) -> str | None:
    """The separator that a first line ``sep=;``, as Excel writes it, states; None for others."""
    match = _SEPARATOR_LINE.fullmatch(line.removeprefix("\ufeff").rstrip("\r\n"))
    return None if match is None else match[1]


def resolve_separator(configured: str | None) -> str | None:
    """The character that ``data.separator`` names: ``tab`` and ``\\t`` are a tab.

    Raises DataError for a separator that cannot separate columns.
    """
    if configured in ("", '"', "\n", "\r"):
        raise DataError(
            f"{configured!r} is not a valid separator",
            where="data.separator",
            hint="Use a character such as , or ; or tab",
        )
    return "\t" if configured is not None and configured.lower() in ("tab", "\\t") else configured


def resolve_quoting(configured: bool | None, separator: str) -> bool:
    """``data.quoting``; by default true for a single character that is not a tab.

    Texts hardly contain tabs, so that TSV fields need no quotes.
    """
    return configured if configured is not None else separator != "\t" and len(separator) == 1


def split_header(line: str, separator: str, config: DataConfig) -> list[str]:
    """The names in the first ``line`` of a table, split as its rows are."""
    line = line.removeprefix("\ufeff").rstrip("\r\n")
    if len(separator) == 1 and resolve_quoting(config.quoting, separator):
        with contextlib.suppress(csv.Error):  # a text, such as one with an open quote
            return [name.strip() for name in next(csv.reader([line], delimiter=separator), [])]
    return [name.strip().strip('"') for name in line.split(separator)]


def detect_separator(line: str, columns: ColumnSpec, config: DataConfig, default: str) -> str:
    """The separator of a table whose first line is ``line``.

    It is ``default``, unless only another one of ``SEPARATORS`` separates the names of all
    ``columns``. A table without names of columns has the default.
    """
    if not columns.has_names or config.header is False:
        return default
    if _has_columns(columns, split_header(line, default, config)):
        return default
    return separator_of_header(line, columns, config, SEPARATORS) or default


def separator_of_header(
    line: str, columns: ColumnSpec, config: DataConfig, separators: Sequence[str]
) -> str | None:
    """The only one of ``separators`` that splits ``line`` into names with those of ``columns``.

    None if there is none, if there are several, and for a single name.
    """
    found = []
    for separator in separators:
        names = split_header(line, separator, config)
        if len(names) > 1 and _has_columns(columns, names):
            found.append(separator)
    return found[0] if len(found) == 1 else None


def _has_columns(columns: ColumnSpec, names: Collection[str]) -> bool:
    """Whether all columns that are requested by name are among ``names``."""
    first, *others = (*columns.text, *columns.label)
    alternatives = {first, *columns.text_alternatives}
    is_first = isinstance(first, int) or not alternatives.isdisjoint(names)
    return is_first and all(isinstance(name, int) or name in names for name in others)
