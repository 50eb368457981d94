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

from bertft.config.messages import quote_value
from bertft.data.classes import configured_class_names
from bertft.data.labels import to_class_name, class_name_as_number
from bertft.data.separated import Record
from bertft.errors import UsageError

__all__ = ["declared_class_names", "select_class_names", "parquet_class_names", "numbers_to_names"]

_METADATA_KEY = b"huggingface"


def declared_class_names(feature: Any) -> list[str] | None:
    """The names of a ClassLabel or of a list of them; None for any other feature."""
    if isinstance(feature, list):  # the older notation of a sequence
        return declared_class_names(feature[0]) if len(feature) == 1 else None
    if isinstance(feature, Mapping):
        names = feature.get("names")
        if "feature" in feature:
            return declared_class_names(feature["feature"])
    else:
        if hasattr(feature, "feature"):
            return declared_class_names(feature.feature)
        names = getattr(feature, "names", None)
    is_name_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return list(names) if is_name_list and names else None


def parquet_class_names(path: Path, column: str | int) -> list[str] | None:
    """The names declared for ``column``, a name or a position; None where there are none.

    A file that cannot be read has none: reading its rows reports the problem.
    """
    from pyarrow import parquet

    try:
        schema = parquet.read_schema(path)
        if isinstance(column, int):
            column = schema.names[column]
        content = json.loads((schema.metadata or {})[_METADATA_KEY])
        return declared_class_names(content["info"]["features"][column])
    except (pa.ArrowException, OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def select_class_names(declared: list[str] | None, configured: Any) -> list[str] | None:
    """The declared names, unless data.labels gives other ones to the same numbers.

    None: the numbers stay, as positions in the list data.labels or keys of such a mapping.
    UsageError where such a list has the declared names in other spellings and another order.
    """
    if declared is None or configured is None:
        return declared
    if isinstance(configured, Mapping):
        by_number = all(class_name_as_number(to_class_name(key) or "") is not None for key in configured)
        return None if by_number else declared
    names = configured_class_names(configured)
    if set(names) & set(declared):
        return declared
    spelled = {name.casefold(): number for number, name in enumerate(declared)}
    for number, name in enumerate(names):
        declared_number = spelled.get(name.casefold(), number)
        if declared_number != number:
            raise UsageError(
                f"lists {quote_value(name)} as class {number}, but the file calls class {declared_number}"
                f" {quote_value(declared[declared_number])}", where="data.labels",
                hint="Write the names as the file does; their order is then free",
            )  # fmt: skip
    return None


def numbers_to_names(
    records: Iterable[Record], column_index: int, names: Sequence[str] | None
) -> Iterator[Record]:
    """Field ``column_index`` of each record by name. Negative numbers mean that there is no label."""
    for line, fields in records:
        fields[column_index] = _number_to_name(fields[column_index], names)
        yield line, fields


def _number_to_name(value: Any, names: Sequence[str] | None) -> Any:
    if isinstance(value, list):
        return [_number_to_name(item, names) for item in value]
    if not isinstance(value, int) or isinstance(value, bool):
        return value
    if value < 0:
        return None
    return names[value] if names is not None and value < len(names) else value
