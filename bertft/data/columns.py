"""Which columns are asked for, and where they stand in a file's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from bertft.config.data import DataConfig
from bertft.config.messages import listing, nearest, quoted, together
from bertft.errors import DataError, UsageError

__all__ = ["Asked", "ColumnNotFound", "find", "label_names", "text_names"]

Name = str | int

_COMPARED = 1_000  # columns of which the nearest is named


@dataclass(frozen=True)
class Asked:
    """One or more ``text`` columns; none, one or many ``label`` columns: names or positions.

    ``optional`` names are read where the rows have them, and are None where not. ``instead`` are
    names of which the first that there is serves where the first text column's own is not there.
    """

    text: tuple[Name, ...]
    label: tuple[Name, ...]
    optional: tuple[str, ...] = ()
    instead: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[Name, ...]:
        return self.text + self.label + self.optional

    @property
    def named(self) -> bool:
        """Whether any column is asked for by name."""
        return any(isinstance(each, str) for each in self.text + self.label)

    def among(self, names: Sequence[str] | None) -> Asked:
        """What is asked of rows with the columns ``names``, where one may serve ``instead``."""
        if names is None or self.text[0] in names:
            return self
        there = [name for name in self.instead if name in names]
        return replace(self, text=(there[0], *self.text[1:])) if there else self

    def setting(self, place: int) -> str:
        """The setting that asks for column number ``place`` of ``all``."""
        return "data.text" if place < len(self.text) else "data.label"


class ColumnNotFound(DataError):
    """``labels_alone``: only labels are missing, and no column is called nearly so."""

    labels_alone = False


def text_names(config: DataConfig, default: tuple[Name, ...]) -> tuple[Name, ...]:
    """The columns of data.text. UsageError for what names none."""
    return default if config.text is None else _names(config.text, "data.text")


def label_names(config: DataConfig, default: tuple[Name, ...]) -> tuple[Name, ...]:
    """The columns of data.label. UsageError for what names none."""
    return default if config.label is None else _names(config.label, "data.label")


def _names(value: Any, where: str) -> tuple[Name, ...]:
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


def find(columns: Asked, names: Sequence[str] | None, count: int, source: str) -> list[int | None]:
    """Positions of the asked columns among ``count``, of which ``names`` (None: no header).

    None for an optional one that is not there. Raises DataError with the nearest name, or the
    positions that there are, for each that is missing.
    """
    columns = columns.among(names)
    places: list[int | None] = []
    wrong: list[DataError] = []
    for place, name in enumerate(columns.text + columns.label):
        try:
            places.append(_position(name, names, count, columns.setting(place), source))
        except DataError as error:
            wrong.append(error)
    if len(wrong) > 1 and names is not None and count > 1:
        raise DataError(together(wrong))
    if wrong:  # without names, or of a single column, the first says all
        raise wrong[0]
    known = list(names or ())
    for each in columns.optional:
        if known.count(each) > 1:
            raise DataError(f"{known.count(each)} columns are called {each!r}", where=source)
    return places + [known.index(each) if each in known else None for each in columns.optional]


def _position(
    name: Name, names: Sequence[str] | None, count: int, setting: str, source: str
) -> int:
    shown = [each.encode("utf-8", "backslashreplace").decode() for each in names or ()]
    names_there = "" if names is None else f" ({listing(shown)})"
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
    places = [place for place, each in enumerate(names) if each == name]
    if len(places) == 1:
        return places[0]
    if places:
        raise DataError(
            f"{len(places)} columns are called {name!r}", where=source,
            hint=f"Give {setting} as a position: {' or '.join(map(str, places))}",
        )  # fmt: skip
    near = nearest(name, shown[:_COMPARED])
    if len(shown) == 1 and (inside := [each for each in ";\t|," if each in shown[0]]):
        mark = "\\t" if inside[0] == "\t" else inside[0]
        raise DataError(
            f"{setting}: there is no column {name!r}, only one, {quoted(shown[0])}", where=source,
            hint=f"Are its columns separated by {mark!r}? Then 'data.separator={mark}'",
        )  # fmt: skip
    hint = f"Did you mean {near!r}?" if near is not None else f"Name it with {setting}=<column>"
    if shown != list(names):
        hint = "The names hold bytes outside the encoding: name the right one with data.encoding"
    error = ColumnNotFound(
        f"{setting}: there is no column {name!r}; the columns are {_listed(shown)}",
        where=source,
        hint=hint,
    )
    error.labels_alone = setting == "data.label" and near is None and shown == list(names)
    raise error


def _listed(names: Sequence[str]) -> str:
    return listing(map(quoted, names)) or "none"
