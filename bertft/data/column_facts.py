"""The columns of a file with their types, from some of its rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice

from bertft.config.data import DataConfig
from bertft.config.registry import READERS
from bertft.data.file_sets import FileSet, column_names
from bertft.data.guess_columns import TableColumn
from bertft.data.rows import BadRows
from bertft.data.schema import ColumnSpec, ObjectKeys, RowSchema, sentence_columns
from bertft.errors import DataError

__all__ = ["ColumnFacts", "has_header", "summarize_columns"]

_MAX_ROWS = 4_000
_MAX_STEP = 16  # every 16th row at most
_MAX_COLUMNS = 200
_EXAMPLE_LENGTH = 200  # characters
_ID = "id"  # an optional column of question answering


@dataclass(frozen=True)
class ColumnFacts:
    """A column of a file.

    Attributes:
        name: its name; its position in a file without a header.
        role: ``text``, ``label``, ``sentence`` or ``group`` if it is read as such; else empty.
        kind: the type of its values (``TableColumn.kind``).
        empty: rows without a value, of ``rows``.
        distinct: different values.
        mean_length: characters of a value.
        example: the first value.
    """

    name: str | int
    role: str
    kind: str
    rows: int
    empty: int
    distinct: int
    mean_length: float
    example: str


def has_header(schema: RowSchema, config: DataConfig) -> bool:
    """Whether the first line of a CSV or TSV file has the column names."""
    return schema.columns.has_names if config.header is None else config.header


def summarize_columns(
    file_set: FileSet, schema: RowSchema, config: DataConfig, rows: int
) -> list[ColumnFacts]:
    """The columns of the first file; empty if its format has no columns, or it cannot be read.

    ``rows``: about how many rows it has; of many rows, some are read.
    """
    first = file_set.first
    spec, selected = first.format.spec, schema.columns.without_derived()
    # The reader of the format: that of a schema may group rows (data.sentence).
    read = READERS.implementation(first.format.name, "read")
    first = replace(first, format=replace(first.format, read=read))
    try:
        probe_config = replace(config, header=True) if spec.has_separator else config
        names = column_names(first, schema, probe_config)
        if names is None:
            return []
        if isinstance(names, ObjectKeys):
            nested = [name for name in names[names.top_level :] if name in selected.all_columns]
            names = [*names[: names.top_level], *nested]
        selected = selected.resolve_alternatives(names)
        names = names[:_MAX_COLUMNS]
        has_positions = spec.has_separator or spec.schema is not None
        requested = tuple(range(len(names))) if has_positions else tuple(names)
        is_named = not spec.has_separator or has_header(schema, config)
        read_config = replace(config, header=is_named) if spec.has_separator else config
        records = read(first.path, ColumnSpec(requested, ()), read_config, BadRows(first.name))
        step = max(1, min(_MAX_STEP, rows // _MAX_ROWS))
        values = [fields for _, fields in islice(records, 0, _MAX_ROWS * step, step)]
    except DataError:
        return []
    columns = [
        TableColumn(position, name if is_named else position, [row[position] for row in values])
        for position, name in enumerate(names)
    ]
    roles: dict[str | int, str] = {
        name: "group" if name == config.group else "label" for name in selected.optional
    }
    roles.pop(_ID, None)
    sentence = () if config.sentence is None else sentence_columns(config)
    for role, requested_columns in (
        ("sentence", sentence),
        ("text", selected.text),
        ("label", selected.label),
    ):
        for name in requested_columns:
            position = name % len(columns) if isinstance(name, int) else None
            roles |= {c.name: role for c in columns if c.name == name or c.position == position}
    return [_summarize(column, roles.get(column.name, "")) for column in columns]


def _summarize(column: TableColumn, role: str) -> ColumnFacts:
    example = column.texts[0] if column.texts else ""
    return ColumnFacts(
        column.name,
        role,
        column.kind,
        len(column.values),
        len(column.values) - len(column.texts),
        column.distinct,
        column.mean_length,
        example[:_EXAMPLE_LENGTH],
    )
