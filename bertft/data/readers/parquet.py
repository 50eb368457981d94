"""Rows of Parquet files and other Arrow data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from bertft.config.data import DataConfig
from bertft.data.column_blocks import ColumnBlock
from bertft.data.rows import BadRows
from bertft.data.schema import ColumnSpec, Record, find_columns
from bertft.errors import DataError
from bertft.utils.background import prefetch

if TYPE_CHECKING:
    from pyarrow.parquet import FileMetaData

__all__ = [
    "blocks_of_batches",
    "read_batches",
    "read_parquet",
    "read_parquet_blocks",
    "read_parquet_schema",
    "unique_names",
]


_BATCH_BYTES, _MAX_BATCH_ROWS = 1 << 23, 1 << 16
_MAX_INDEX_BYTES = 1 << 26  # bytes between columns and footer that are checked


def read_parquet(
    path: Path, columns: ColumnSpec, config: DataConfig, bad: BadRows
) -> Iterator[Record]:
    """The requested values of each row, counted from 1; errors of ``read_parquet_blocks``."""
    for block in read_parquet_blocks(path, columns, config, bad):
        yield from block.records()


def read_parquet_blocks(
    path: Path, columns: ColumnSpec, config: DataConfig, bad: BadRows
) -> Iterator[ColumnBlock]:
    """The requested columns of the rows, which are counted from 1. ``config`` is not used.

    Raises:
        DataError: the file is not a Parquet file that can be read.
    """
    from pyarrow import parquet

    source = bad.source
    try:
        # Without pre_buffer, which reads a whole row group into memory first, reading is faster.
        with parquet.ParquetFile(path, pre_buffer=False) as file:
            _check_single_file(path, file.metadata, source)
            bad.count_row(file.metadata.num_rows)
            names = file.schema_arrow.names
            positions = find_columns(columns, names, len(names), source)
            batch_rows = _batch_rows(file.metadata)
            if len(set(names)) < len(names):
                names = unique_names(names)
                batches = (batch.rename_columns(names) for batch in file.iter_batches(batch_rows))
            else:
                requested = {names[position] for position in positions if position is not None}
                batches = file.iter_batches(batch_rows, columns=sorted(requested))
            selected_names = [
                None if position is None else names[position] for position in positions
            ]
            with closing(prefetch(batches, depth=1)) as batches_ahead:
                yield from blocks_of_batches(batches_ahead, selected_names)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"not a valid Parquet file ({error})", where=source) from error


def _batch_rows(metadata: FileMetaData) -> int:
    """The number of rows that are read at once, so that they take about ``_BATCH_BYTES``."""
    groups = map(metadata.row_group, range(metadata.num_row_groups))
    row_bytes = sum(group.total_byte_size for group in groups) / max(1, metadata.num_rows)
    return int(min(_MAX_BATCH_ROWS, max(1, _BATCH_BYTES / max(1.0, row_bytes))))


def read_parquet_schema(path: Path) -> pa.Schema:
    """The names and types of the columns. Raises pa.ArrowException or OSError."""
    from pyarrow import parquet

    return parquet.read_schema(path)


def unique_names(names: Sequence[str]) -> list[str]:
    """``names`` of columns, or their positions if a name occurs twice and would be ambiguous."""
    return list(names) if len(set(names)) == len(names) else list(map(str, range(len(names))))


def _check_single_file(path: Path, metadata: FileMetaData, source: str) -> None:
    """Raise DataError if a second Parquet file was appended: one of the two would be ignored.

    Between the last column and the footer, a valid file has only page indexes.
    """
    if not metadata.num_row_groups:
        return
    group = metadata.row_group(metadata.num_row_groups - 1)
    end = 0
    for number in range(group.num_columns):
        column = group.column(number)
        starts = (column.dictionary_page_offset, column.data_page_offset)
        end = max(end, min(filter(None, starts)) + column.total_compressed_size)
    footer = path.stat().st_size - metadata.serialized_size - 8
    with path.open("rb") as content:
        content.seek(end)
        if b"PAR1PAR1" in content.read(max(0, min(footer - end, _MAX_INDEX_BYTES))):
            raise DataError(
                "several Parquet files were concatenated byte by byte",
                where=source,
                hint="Join them as tables, for example with pyarrow.concat_tables",
            )


def read_batches(
    batches: Iterable[pa.RecordBatch], names: Sequence[str | None]
) -> Iterator[Record]:
    """Records, counted from 1, with the values of the columns ``names`` (None: no column)."""
    for block in blocks_of_batches(batches, names):
        yield from block.records()


def blocks_of_batches(
    batches: Iterable[pa.RecordBatch], names: Sequence[str | None]
) -> Iterator[ColumnBlock]:
    """The columns ``names`` (None: no column) of the rows, which are counted from 1."""
    line = 1
    for batch in batches:
        columns = [None if name is None else batch.column(name) for name in names]
        yield ColumnBlock(line, columns, batch.num_rows)
        line += batch.num_rows
