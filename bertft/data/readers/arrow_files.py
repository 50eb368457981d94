"""Rows of Arrow files: Feather 2, IPC files and streams, and the files of ``save_to_disk``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from bertft.config.data import DataConfig
from bertft.data.column_blocks import ColumnBlock
from bertft.data.readers.parquet import blocks_of_batches, unique_names
from bertft.data.rows import BadRows
from bertft.data.schema import ColumnSpec, Record, find_columns
from bertft.errors import DataError

__all__ = ["open_batches", "read_arrow", "read_arrow_blocks", "read_arrow_schema"]

_FILE_MAGIC = b"ARROW1"
_FEATHER_1_MAGIC = b"FEA1"


def read_arrow(
    path: Path, columns: ColumnSpec, config: DataConfig, bad: BadRows
) -> Iterator[Record]:
    """The requested values of each row, counted from 1; errors of ``read_arrow_blocks``."""
    for block in read_arrow_blocks(path, columns, config, bad):
        yield from block.records()


def read_arrow_blocks(
    path: Path, columns: ColumnSpec, config: DataConfig, bad: BadRows
) -> Iterator[ColumnBlock]:
    """The requested columns of the rows, which are counted from 1. ``config`` is not used.

    Raises:
        DataError: the file is not an Arrow file that can be read.
    """
    try:
        with open_batches(path) as (schema, batches):
            names = schema.names
            positions = find_columns(columns, names, len(names), bad.source)
            column_names = unique_names(names)
            selected_names = [
                None if position is None else column_names[position] for position in positions
            ]
            yield from blocks_of_batches(
                _checked_batches(batches, column_names, bad), selected_names
            )
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"not a valid Arrow file ({error})", where=bad.source) from error


def read_arrow_schema(path: Path) -> pa.Schema:
    """The names and types of the columns. Raises pa.ArrowException or OSError."""
    with open_batches(path) as (schema, _):
        return schema


def _checked_batches(
    batches: Iterator[pa.RecordBatch], names: list[str], bad: BadRows
) -> Iterator[pa.RecordBatch]:
    """The batches with the columns ``names``, after a check that no value is out of bounds."""
    for batch in batches:
        batch.validate(full=True)  # a damaged file could make the process crash
        bad.count_row(batch.num_rows)
        yield batch.rename_columns(names)


@contextmanager
def open_batches(path: Path) -> Iterator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
    """The schema and the batches of a file that is mapped into memory."""
    if not path.stat().st_size:
        raise pa.ArrowInvalid("the file is empty")
    with pa.memory_map(str(path)) as source:
        magic = source.read(len(_FILE_MAGIC))
        source.seek(0)
        if magic.startswith(_FEATHER_1_MAGIC):
            raise pa.ArrowInvalid("Feather version 1 is not supported; write version 2")
        if magic == _FILE_MAGIC:
            reader = pa.ipc.open_file(source)
            yield reader.schema, map(reader.get_batch, range(reader.num_record_batches))
        else:
            with pa.ipc.open_stream(source) as stream:
                yield stream.schema, stream
