"""Which columns are asked for, and where they stand in a file's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from bertft.config.data import DataConfig
from bertft.config.messages import format_list, closest_name, quote_value, join_problems
from bertft.errors import DataError, UsageError

__all__ = ["ColumnSpec", "ColumnNotFound", "find_columns", "label_columns", "text_columns"]

ColumnName = str | int

_MAX_COMPARED = 1_000  # columns of which the nearest is named


@dataclass(frozen=True)
class ColumnSpec:
    """One or more ``text`` columns; none, one or many ``label`` columns: names or positions.

    ``optional`` names are read where the rows have them, and are None where not. ``text_alternatives`` are
    names of which the first that there is serves where the first text column's own is not there.
    """

    text: tuple[ColumnName, ...]
    label: tuple[ColumnName, ...]
    optional: tuple[str, ...] = ()
    text_alternatives: tuple[str, ...] = ()

    @property
    def all_columns(self) -> tuple[ColumnName, ...]:
        return self.text + self.label + self.optional

    @property
    def has_names(self) -> bool:
        """Whether any column is asked for by name."""
        return any(isinstance(column, str) for column in self.text + self.label)

    def resolve_alternatives(self, names: Sequence[str] | None) -> ColumnSpec:
        """What is asked of rows with the columns ``names``, where one may serve ``text_alternatives``."""
        if names is None or self.text[0] in names:
            return self
        present_alternatives = [name for name in self.text_alternatives if name in names]
        return replace(self, text=(present_alternatives[0], *self.text[1:])) if present_alternatives else self

    def setting_of_column(self, index: int) -> str:
        """The setting that asks for column number ``index`` of ``all_columns``."""
        return "data.text" if index < len(self.text) else "data.label"


class ColumnNotFound(DataError):
    """``only_labels_missing``: only labels are missing, and no column is called nearly so."""

    only_labels_missing = False


def text_columns(config: DataConfig, default: tuple[ColumnName, ...]) -> tuple[ColumnName, ...]:
    """The columns of data.text. UsageError for what names none."""
    return default if config.text is None else _parse_column_names(config.text, "data.text")


def label_columns(config: DataConfig, default: tuple[ColumnName, ...]) -> tuple[ColumnName, ...]:
    """The columns of data.label. UsageError for what names none."""
    return default if config.label is None else _parse_column_names(config.label, "data.label")


def _parse_column_names(value: Any, where: str) -> tuple[ColumnName, ...]:
    several = isinstance(value, Sequence) and not isinstance(value, str)
    names = tuple(value) if several else (value,)
    for name in names:
        if isinstance(name, bool) or not isinstance(name, (str, int)) or name == "":
            raise UsageError(
                f"{name!r} is neither a column's name nor its position", where=where,
                hint="Give a name, or a position from 0",
            )  # fmt: skip
    if len(set(names)) != len(names):
        raise UsageError(f"a column stands twice in {list(names)}", where=where)
    return names


def find_columns(columns: ColumnSpec, names: Sequence[str] | None, count: int, source: str) -> list[int | None]:
    """Positions of the asked columns among ``count``, of which ``names`` (None: no header).

    None for an optional one that is not there. Raises DataError with the nearest name, or the
    positions that there are, for each that is missing.
    """
    columns = columns.resolve_alternatives(names)
    positions: list[int | None] = []
    errors: list[DataError] = []
    for index, name in enumerate(columns.text + columns.label):
        try:
            positions.append(_find_column(name, names, count, columns.setting_of_column(index), source))
        except DataError as error:
            errors.append(error)
    if len(errors) > 1 and names is not None and count > 1:
        raise DataError(join_problems(errors))
    if errors:  # without names, or of a single column, the first says all
        raise errors[0]
    known_names = list(names or ())
    for column in columns.optional:
        if known_names.count(column) > 1:
            raise DataError(f"{known_names.count(column)} columns are called {column!r}", where=source)
    return positions + [known_names.index(each) if each in known_names else None for each in columns.optional]


def _find_column(
    name: ColumnName, names: Sequence[str] | None, count: int, setting: str, source: str
) -> int:
    printable_names = [column_name.encode("utf-8", "backslashreplace").decode() for column_name in names or ()]
    names_there = "" if names is None else f" ({format_list(printable_names)})"
    if isinstance(name, int):
        if -count <= name < count:
            return name % count
        raise DataError(
            f"{setting}={name}, but the columns go from 0 to {count - 1}{names_there}", where=source
        )
    if names is None:
        raise DataError(
            f"{setting}={name} is a name, but the file has no header", where=source,
            hint="Give a position from 0, or data.header=true",
        )  # fmt: skip
    positions = [position for position, each in enumerate(names) if each == name]
    if len(positions) == 1:
        return positions[0]
    if positions:
        raise DataError(
            f"{len(positions)} columns are called {name!r}", where=source,
            hint=f"Give {setting} as a position: {' or '.join(map(str, positions))}",
        )  # fmt: skip
    closest = closest_name(name, printable_names[:_MAX_COMPARED])
    if len(printable_names) == 1 and (separators_inside := [each for each in ";\t|," if each in printable_names[0]]):
        separator_shown = "\\t" if separators_inside[0] == "\t" else separators_inside[0]
        raise DataError(
            f"{setting}: there is no column {name!r}, only one, {quote_value(printable_names[0])}", where=source,
            hint=f"Are its columns separated by {separator_shown!r}? Then 'data.separator={separator_shown}'",
        )  # fmt: skip
    hint = f"Did you mean {closest!r}?" if closest is not None else f"Name it with {setting}=<column>"
    if printable_names != list(names):
        hint = "The names hold bytes outside the encoding: name the right one with data.encoding"
    error = ColumnNotFound(
        f"{setting}: there is no column {name!r}; the columns are {_format_columns(printable_names)}",
        where=source,
        hint=hint,
    )
    error.only_labels_missing = setting == "data.label" and closest is None and printable_names == list(names)
    raise error


def _format_columns(names: Sequence[str]) -> str:
    return format_list(map(quote_value, names)) or "none"
