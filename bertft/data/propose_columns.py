"""Propose settings for a file whose columns were not found, from its first rows."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import islice
from pathlib import Path

from bertft.config.data import DataConfig
from bertft.data.data_sources import read_records, uses_csv_reader
from bertft.data.guess_columns import propose_settings
from bertft.data.rows import BadRows
from bertft.data.schema import ColumnNotFound, ColumnSpec, RowSchema, build_row_schema
from bertft.errors import DataError

__all__ = ["detect_columns", "propose_columns", "propose_text_column"]

_SAMPLE_ROWS, _MAX_COLUMNS = 500, 1_000


def detect_columns(path: Path, config: DataConfig) -> list[str]:
    """Settings that read ``path``; empty if it has the columns text and label.

    Raises:
        ColumnNotFound: it has other columns, and which of them are text and label is unclear.
        DataError: the file cannot be read.
    """
    schema = build_row_schema(config)
    records = read_records(path, schema, config, BadRows(str(path)))
    try:
        next(records, None)
    except ColumnNotFound as error:
        settings = propose_columns(path, schema, config, error)
        if settings:
            return settings
        raise
    return []


def propose_columns(
    path: Path, schema: RowSchema, config: DataConfig, error: ColumnNotFound
) -> list[str]:
    """Settings with which the file may be read, from its first rows; empty if unclear."""
    return _propose(path, schema, config, error, config.task)


def propose_text_column(
    path: Path, schema: RowSchema, config: DataConfig, error: ColumnNotFound
) -> list[str]:
    """As ``propose_columns``, for a file of texts without labels; empty for text pairs."""
    if len(schema.columns.text) != 1:
        return []
    return _propose(path, schema, config, error, "masked_lm")  # the task of texts without labels


def _propose(
    path: Path, schema: RowSchema, config: DataConfig, error: ColumnNotFound, task: str
) -> list[str]:
    names, separator = list(error.names), error.separator
    if separator is not None:
        names = [name.strip().strip('"') for name in names[0].split(separator)]
    needed = 1 if task == "masked_lm" else 2
    if not needed <= len(names) <= _MAX_COLUMNS:
        return []
    sample_config = replace(config, header=True, separator=separator or config.separator)
    is_csv = uses_csv_reader(path, schema, sample_config)
    sample_schema = copy.copy(schema)
    sample_schema.columns = ColumnSpec(tuple(range(len(names)) if is_csv else names), ())
    try:
        records = read_records(path, sample_schema, sample_config, BadRows(str(path)))
        rows = [fields for _, fields in islice(records, _SAMPLE_ROWS)]
    except DataError:
        return []
    has_text = "data.text" not in error.missing and separator is None
    has_label = "data.label" not in error.missing and separator is None
    settings = propose_settings(
        names,
        rows,
        task,
        list(schema.columns.text) if has_text else None,
        list(schema.columns.label) if has_label else None,
        has_positions=is_csv,
    )
    if not settings or separator is None:
        return settings
    return [f"data.separator={'tab' if separator == chr(9) else separator}", *settings]
