"""Rows that a program has in memory, for the Python API."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
from pyarrow import parquet

from bertft.config.data import DataConfig
from bertft.data.annotated_spans import is_spans, parse_spans
from bertft.data.prediction_rows import (
    PredictionInput,
    resolve_kept_columns,
    with_kept_columns,
)
from bertft.data.readers.parquet import read_batches
from bertft.data.rows import BadRows
from bertft.data.schema import ColumnSpec, Record, build_row_schema, find_columns
from bertft.errors import DataError, UsageError
from bertft.runs.run_folder import RunFolder
from bertft.utils.messages import expand_home, format_list, shorten

__all__ = ["DataFrame", "open_rows", "rows_file", "rows_to_files", "to_arrow_table"]

_NAME_SAMPLE_ROWS = 100  # the keys of these rows are the columns
_ROW_TYPES = "rows must be dicts, texts, a DataFrame, a datasets.Dataset or a path"
_EXAMPLE_HINT = "Pass, for example, [{'text': 'so good'}]"


class DataFrame(Protocol):
    """A pandas DataFrame; a protocol, so that pandas is not required."""

    @property
    def iloc(self) -> Any: ...


def to_arrow_table(rows: Any, name: str) -> pa.Table:
    """The columns of a DataFrame, a ``datasets.Dataset`` or dicts; ``name`` is for messages.

    Raises:
        UsageError: the rows are of another type.
        DataError: a column has values of different types.
    """
    try:
        if hasattr(rows, "data") and isinstance(getattr(rows.data, "table", None), pa.Table):
            return rows.with_format("arrow")[:]  # a datasets.Dataset, only its selected rows
        if hasattr(rows, "iloc"):  # a DataFrame
            return pa.Table.from_pandas(rows, preserve_index=False)
        rows = list(rows)
        if not all(isinstance(row, Mapping) for row in rows):
            raise UsageError(
                f"{name}: rows must be dicts, a DataFrame, a datasets.Dataset or a path",
                hint="Pass, for example, [{'text': 'so good', 'label': 'pos'}]",
            )
        names = list(dict.fromkeys(key for row in rows for key in row))
        return pa.table({key: _column_values([row.get(key) for row in rows]) for key in names})
    except (pa.ArrowException, TypeError) as error:
        reason = str(error).split("\n")[0]
        raise DataError(
            f"cannot convert the rows to columns ({reason})",
            where=name,
            hint="Convert the values of each column to one type",
        ) from error


def _column_values(values: list[Any]) -> list[Any]:
    """``values``; spans such as (0, 2, "ORG"), which have no Arrow type, become objects."""
    lists = [value for value in values if isinstance(value, (list, tuple)) and value]
    if not any(isinstance(item, (list, tuple)) for value in lists for item in value):
        return values
    if not all(map(is_spans, lists)):
        return values
    return [
        None if value is None else [vars(span) for span in parse_spans(value) or ()]
        for value in values
    ]


def rows_to_files(rows: Any, folder: Path, name: str) -> str | list[str]:
    """The path or the paths ``rows``; for rows in memory, that of ``rows/<name>.parquet``.

    The rows are written to this file in ``folder``.

    Raises:
        UsageError: the rows are of another type.
        DataError: ``folder`` has a run that was trained with other rows, which are kept.
    """
    if isinstance(rows, (str, os.PathLike)):
        return str(expand_home(rows))
    if isinstance(rows, (list, tuple)) and _are_paths(rows):
        return [str(expand_home(row)) for row in rows]
    table = to_arrow_table(rows, name)
    path = folder / "rows" / f"{name}.parquet"
    if RunFolder(folder).has_run and path.exists():
        if not parquet.read_table(path).equals(table):
            raise DataError(
                f"the {name} rows differ from those of the run in this folder",
                where=str(folder),
                hint="Set another output_dir",
            )
        return str(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path)
    return str(path)


def _are_paths(rows: Sequence[Any]) -> bool:
    """Whether ``rows`` are paths and not texts: one of them exists."""
    return all(isinstance(row, (str, os.PathLike)) for row in rows) and any(
        not isinstance(row, str) or os.path.exists(expand_home(row)) for row in rows
    )


def open_rows(
    rows: Any, config: DataConfig, keep: Any = None, name: str = "rows"
) -> PredictionInput:
    """Rows to predict: texts, dicts, a DataFrame, a ``datasets.Dataset`` or an Arrow table.

    Texts may be in a list, an array, a Series or an iterator, which is read as they are predicted.

    Raises:
        DataError: a column does not exist.
        UsageError: the rows are of another type.
    """
    schema = build_row_schema(config, labelled=False)
    if hasattr(rows, "tolist"):  # an array or a Series
        rows = rows.tolist()
    if hasattr(rows, "iloc") or hasattr(rows, "data"):
        rows = to_arrow_table(rows, name)
    if isinstance(rows, pa.Table):
        names = rows.column_names
        kept_names = resolve_kept_columns(keep, names, name)
        columns = _columns_of(schema.columns, kept_names, names, name)
        batches = rows.to_batches(max_chunksize=1024)

        def read_table(bad: BadRows) -> Iterator[Record]:
            bad.count_row(rows.num_rows)
            return read_batches(batches, columns)

        return PredictionInput(name, schema, read_table, kept_names, "row")
    if isinstance(rows, Mapping) or not isinstance(rows, Iterable):
        kind = "a dict of columns" if isinstance(rows, Mapping) else f"the type {_type_name(rows)}"
        raise UsageError(f"{kind} is not supported: {_ROW_TYPES}", where=name, hint=_EXAMPLE_HINT)
    is_repeatable = isinstance(rows, Sequence)
    iterator = iter(rows)
    first_rows = list(islice(iterator, _NAME_SAMPLE_ROWS))
    for number, row in enumerate(first_rows, start=1):
        _check_row_type(row, number, name)
    names = list(
        dict.fromkeys(key for row in first_rows if isinstance(row, Mapping) for key in row)
    )
    text = schema.columns.text[0]
    has_texts = any(isinstance(row, str) for row in first_rows)
    if has_texts and len(schema.columns.text) > 1:
        raise UsageError(
            f"this model needs {len(schema.columns.text)} texts per row",
            where=name,
            hint=f"Use dicts with the keys {format_list(schema.columns.text)}",
        )
    if has_texts and not names:
        names = [str(text)]
    kept_names = resolve_kept_columns(keep, names, name)
    columns = _columns_of(schema.columns, kept_names, names, name) if first_rows else []

    def read_rows(bad: BadRows) -> Iterator[Record]:
        for number, row in enumerate(rows if is_repeatable else chain(first_rows, iterator), 1):
            bad.count_row()
            _check_row_type(row, number, name)
            if isinstance(row, str):
                yield number, [row, *(row if key == text else None for key in columns[1:])]
            else:
                yield number, [None if key is None else row.get(key) for key in columns]

    return PredictionInput(name, schema, read_rows, kept_names, "row", is_repeatable=is_repeatable)


def _check_row_type(row: Any, number: int, name: str) -> None:
    if not isinstance(row, (str, Mapping)):
        raise UsageError(
            f"row {number} has the type {_type_name(row)}: {_ROW_TYPES}",
            where=name,
            hint=_EXAMPLE_HINT,
        )


def _type_name(value: Any) -> str:
    return type(value).__name__


def _columns_of(
    columns: ColumnSpec, kept_names: Sequence[str], names: Sequence[str], source: str
) -> list[str | None]:
    """The name of each requested column among ``names``; None for one that does not exist."""
    positions = find_columns(with_kept_columns(columns, kept_names), names, len(names), source)
    return [None if position is None else names[position] for position in positions]


def rows_file(rows: str | os.PathLike[str]) -> str:
    """The path ``rows``. UsageError for a string that is a text and not the name of a file."""
    path = expand_home(rows)
    is_text = " " in path.suffix or not path.suffix
    if isinstance(rows, str) and is_text and not os.path.exists(path):
        raise UsageError(
            "there is no such file",
            where=f"rows={shorten(rows)}",
            hint="For a text, pass a list: predict([text])",
        )
    return str(path)
