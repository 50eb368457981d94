"""Class names that a data set declares for its label column: ``datasets.ClassLabel``.

class_names(feature)          from a feature of ``datasets``, or its JSON form
parquet_names(path, column)   from the metadata that ``datasets`` writes into a Parquet file
names_to_use(declared, given) whether the declared names or data.labels name the numbers
with_names(records, ...)      records with names in place of the numbers
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from bertft.config.messages import quoted
from bertft.data.classes import listed
from bertft.data.labels import class_name, numeric
from bertft.data.separated import Record
from bertft.errors import UsageError

__all__ = ["class_names", "names_to_use", "parquet_names", "with_names"]

_METADATA = b"huggingface"


def class_names(feature: Any) -> list[str] | None:
    """The names of a ClassLabel or of a list of them; None for any other feature."""
    if isinstance(feature, list):  # the older notation of a sequence
        return class_names(feature[0]) if len(feature) == 1 else None
    if isinstance(feature, Mapping):
        names = feature.get("names")
        if "feature" in feature:
            return class_names(feature["feature"])
    else:
        if hasattr(feature, "feature"):
            return class_names(feature.feature)
        names = getattr(feature, "names", None)
    listed = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return list(names) if listed and names else None


def parquet_names(path: Path, column: str | int) -> list[str] | None:
    """The names declared for ``column``, a name or a position; None where there are none.

    A file that cannot be read has none: reading its rows reports the problem.
    """
    from pyarrow import parquet

    try:
        schema = parquet.read_schema(path)
        if isinstance(column, int):
            column = schema.names[column]
        content = json.loads((schema.metadata or {})[_METADATA])
        return class_names(content["info"]["features"][column])
    except (pa.ArrowException, OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def names_to_use(declared: list[str] | None, given: Any) -> list[str] | None:
    """The declared names, unless data.labels gives other ones to the same numbers.

    None: the numbers stay, as positions in the list data.labels or keys of such a mapping.
    UsageError where such a list has the declared names in other spellings and another order.
    """
    if declared is None or given is None:
        return declared
    if isinstance(given, Mapping):
        by_number = all(numeric(class_name(key) or "") is not None for key in given)
        return None if by_number else declared
    names = listed(given)
    if set(names) & set(declared):
        return declared
    spelled = {name.casefold(): number for number, name in enumerate(declared)}
    for number, name in enumerate(names):
        own = spelled.get(name.casefold(), number)
        if own != number:
            raise UsageError(
                f"lists {quoted(name)} as class {number}, but the file calls class {own}"
                f" {quoted(declared[own])}", where="data.labels",
                hint="Write the names as the file does; their order is then free",
            )  # fmt: skip
    return None


def with_names(
    records: Iterable[Record], place: int, names: Sequence[str] | None
) -> Iterator[Record]:
    """Field ``place`` of each record by name. Negative numbers mean that there is no label."""
    for line, fields in records:
        fields[place] = _named(fields[place], names)
        yield line, fields


def _named(value: Any, names: Sequence[str] | None) -> Any:
    if isinstance(value, list):
        return [_named(each, names) for each in value]
    if not isinstance(value, int) or isinstance(value, bool):
        return value
    if value < 0:
        return None
    return names[value] if names is not None and value < len(names) else value
