"""Which columns are asked for, and where they stand in a file's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bertft.config.data import DataConfig
from bertft.config.messages import did_you_mean
from bertft.errors import DataError, UsageError

__all__ = ["Asked", "asked", "find"]

Name = str | int


@dataclass(frozen=True)
class Asked:
    """One or two ``text`` columns; none, one or many ``label`` columns: names or positions.

    ``instead`` are names of which the first that there is serves where that of the text is not.
    """

    text: tuple[Name, ...]
    label: tuple[Name, ...]
    instead: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[Name, ...]:
        return self.text + self.label

    @property
    def named(self) -> bool:
        """Whether any column is asked for by name."""
        return any(isinstance(each, str) for each in self.all)

    def setting(self, place: int) -> str:
        """The setting that asks for column number ``place`` of ``all``."""
        return "data.text" if place < len(self.text) else "data.label"


def asked(config: DataConfig, labelled: bool = True) -> Asked:
    """The columns that ``config`` asks for. UsageError where it asks for what cannot be."""
    text, label = _names(config.text, "data.text"), _names(config.label, "data.label")
    if len(text) not in (1, 2):
        raise UsageError(
            f"{len(text)} columns of text", where="data.text", hint="Name one, or two for pairs"
        )
    if len(label) != 1 and config.task != "multi_label":
        raise UsageError(
            f"{len(label)} columns of labels", where="data.label",
            hint="Name one; a list of 0/1 columns is for data.task=multi_label",
        )  # fmt: skip
    return Asked(text, label if labelled else ())


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


def find(columns: Asked, names: Sequence[str] | None, count: int, source: str) -> list[int]:
    """Positions of the asked columns among ``count``, of which ``names`` (None: no header).

    Raises DataError with the nearest name, or the positions that there are.
    """
    wanted = list(columns.all)
    if names is not None and wanted[0] not in names:
        wanted[:1] = [name for name in columns.instead if name in names][:1] or wanted[:1]
    return [
        _position(name, names, count, columns.setting(place), source)
        for place, name in enumerate(wanted)
    ]


def _position(
    name: Name, names: Sequence[str] | None, count: int, setting: str, source: str
) -> int:
    shown = [each.encode("utf-8", "backslashreplace").decode() for each in names or ()]
    listing = "" if names is None else f" ({', '.join(shown)})"
    if isinstance(name, int):
        if -count <= name < count:
            return name % count
        raise DataError(
            f"{setting}={name}, but the columns go from 0 to {count - 1}{listing}", where=source
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
    hint = did_you_mean(name, shown)
    if shown != list(names):
        hint = "The names hold bytes outside the encoding: name the right one with data.encoding"
    raise DataError(
        f"{setting}: there is no column {name!r}; the columns are {', '.join(map(repr, shown))}",
        where=source,
        hint=hint,
    )
