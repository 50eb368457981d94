"""Rows whose place a run recorded: read only where they are the ones that the run recorded.

A run may come from somebody else, so the files and the data set that it names are not the user's
word. Files are read if their rows have the fingerprint in manifest.json, a data set of the Hub if
it is in the local cache. Whoever names the data on the command line decides.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from bertft.config.choices import SPLITS
from bertft.config.data import DataConfig
from bertft.data.columns import ColumnNotFound
from bertft.data.rows import Rows
from bertft.data.sources import Splits
from bertft.errors import DataError

__all__ = ["check_recorded", "is_named", "only_recorded", "sources_line"]


def is_named(split: str, data: DataConfig, typed: Collection[str]) -> bool:
    """Whether the command line, which sets ``typed``, says where the rows of ``split`` are."""
    if "data" in typed:
        return True
    if data.source == "hub" and getattr(data, split, None) is None:
        return "data.hub" in typed
    return f"data.{split}" in typed or f"data.{data.source}" in typed


def check_recorded(
    splits: Splits, manifest: Mapping[str, Any], data: DataConfig, typed: Collection[str] = ()
) -> None:
    """DataError where a split that the command line does not name is another one than recorded."""
    for name, rows in splits.items():
        source = "train" if name == "validation" and splits.cut else name
        if is_named(source, data, typed):
            continue
        recorded = manifest["data"]["splits"].get(name)
        if recorded is None or recorded["fingerprint"] != rows.fingerprint:
            raise DataError(
                f"the {name} rows are not those that the run recorded", where=rows.source,
                hint="Put them back as they were. To score these rows, add"
                f" {_words(source, rows, data)} to bertft eval",
            )  # fmt: skip


@contextmanager
def only_recorded(
    data: DataConfig, typed: Collection[str] = (), prove: Callable[[], None] | None = None
) -> Iterator[None]:
    """A file that does not read as it did when it was recorded is another one: nothing of it is
    quoted, as it would be where the command line names it.

    Where the command line changes how rows are read, ``prove`` reads them as the run did: it raises
    DataError unless they are the recorded ones, of which an error may be told.
    """
    try:
        yield
    except DataError as error:
        given = [name for name in (*SPLITS, "unlabelled") if getattr(data, name, None) is not None]
        about_content = isinstance(error, ColumnNotFound) or not _is_setting(error.where)
        if data.source != "files" or not about_content or any(
            is_named(name, data, typed) for name in given
        ):  # fmt: skip
            raise
        other_reading = any(name.startswith("data.") for name in typed)
        if prove is not None and other_reading and _holds(prove):
            raise
        raise DataError(
            "the rows are not those that the run recorded: they cannot be read as they were then",
            where=", ".join(f"data.{name}={getattr(data, name)}" for name in given),
            hint="Put the files back as they were. To see what is wrong with one, name it, as in"
            f" data.{given[-1]}={shlex.quote(str(getattr(data, given[-1])))}",
        ) from None  # fmt: skip


def _holds(prove: Callable[[], None]) -> bool:
    try:
        prove()
    except DataError:
        return False
    return True


def _is_setting(where: str | None) -> bool:
    """Whether an error is about a setting, such as the name of a file that is not there."""
    return where is not None and where.startswith("data.")


def _words(split: str, rows: Rows, data: DataConfig) -> str:
    if rows.files:
        return f"data.{split}={shlex.quote(rows.files[0])}"
    return f"data.{data.source}={shlex.quote(str(getattr(data, data.source, None)))}"


def sources_line(data: DataConfig) -> str:
    """Which recorded rows are about to be read."""
    if data.source == "files":
        names = [name for name in (*SPLITS, "unlabelled") if getattr(data, name) is not None]
        places = [f"data.{name}={getattr(data, name)}" for name in names]
    else:
        places = [f"data.{data.source}={getattr(data, data.source, None)}"]
    return f"reading the rows that the run recorded: {', '.join(places)}"
