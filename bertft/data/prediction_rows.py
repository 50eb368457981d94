"""Rows to predict: a file, standard input or rows in memory, read as a stream.

    PredictionInput       where rows come from, and which of their columns are kept for the output
    iter_row_blocks       valid and invalid rows in order, in blocks of limited size
    check_rows            reads an input that can be read twice: its invalid rows and size

Memory is bounded by a block. Rows of a pipe or terminal are read in a background thread: a block
then ends where no further row is available, so that a row is predicted as soon as it arrives.
"""

from __future__ import annotations

import json
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import pyarrow as pa

from bertft.config.choices import DERIVED_COLUMNS
from bertft.config.data import DataConfig
from bertft.data.file_sets import FileSet, column_names, open_files
from bertft.data.propose_columns import propose_text_column
from bertft.data.readers.unmarked_header import check_unmarked_header
from bertft.data.rows import BadRows, RowError, raise_or_skip
from bertft.data.schema import (
    ColumnNotFound,
    ColumnSpec,
    ObjectKeys,
    Record,
    RowSchema,
    build_row_schema,
    check_characters,
    sentence_columns,
)
from bertft.errors import DataError
from bertft.utils.messages import format_list, suggest

__all__ = [
    "InputErrors",
    "InputRow",
    "InputSummary",
    "PredictionInput",
    "check_rows",
    "check_sentence_columns",
    "iter_row_blocks",
    "open_input_file",
    "resolve_kept_columns",
    "rows_to_table",
    "with_kept_columns",
]

KEEP_ALL = "all"
_IDLE_SECONDS = 0.02  # a block of a live input ends after this time without a row
_QUEUE_ROWS = 256  # rows of a live input that are read ahead
_PROGRESS_ROWS = 1_000
_BLOCK_ROW_MULTIPLE = 64
_MAX_EXACT_INTEGER = 1 << 53  # larger integers are not exact as float64


@dataclass(frozen=True)
class InputRow:
    """One row: ``values`` as its schema parses them, or the ``error`` that makes it invalid.

    ``kept_values``: those of the kept columns; empty if the row could not be split into columns.
    """

    line: int
    values: Sequence[Any] | None
    kept_values: Sequence[Any]
    error: RowError | None = None

    @property
    def size(self) -> int:
        """Characters of the row's texts."""
        return sum(len(value) for value in self.values or () if isinstance(value, str))


@dataclass(frozen=True)
class PredictionInput:
    """Rows to predict.

    Attributes:
        name: the input in messages.
        schema: parses the fields of a row.
        read: the records, whose fields are those of ``schema``, then the kept columns.
        kept_names: the names of the kept columns.
        unit: what record numbers count, if not lines.
        file_set: the files, if the input is not a stream or rows in memory.
        is_repeatable: whether ``read`` can be called twice.
        is_live: whether rows arrive while they are predicted.
        note: the detected format, for the user; may be empty.
    """

    name: str
    schema: RowSchema
    read: Callable[[BadRows], Iterator[Record]]
    kept_names: tuple[str, ...] = ()
    unit: str = ""
    file_set: FileSet | None = None
    is_repeatable: bool = True
    is_live: bool = False
    note: str = ""

    @property
    def has_separator(self) -> bool:
        """Whether the first file is CSV or TSV."""
        return self.file_set is not None and self.file_set.first.format.spec.has_separator

    @property
    def locations(self) -> tuple[tuple[str, str], ...]:
        """``files`` of ``BadRows``."""
        return () if self.file_set is None else self.file_set.locations


@dataclass
class InputSummary:
    """The number of rows of an input, and the Arrow types of its kept columns."""

    rows: int = 0
    kept_types: dict[str, pa.DataType] = field(default_factory=dict)


def open_input_file(name: Any, config: DataConfig, keep: Any = None) -> PredictionInput:
    """The file or files that ``name`` selects; their format is detected as for training.

    Args:
        keep: columns for the output: None, ``all``, a name or a list of names.

    Raises:
        DataError: the file cannot be read, or has no such column.
    """
    schema = build_row_schema(config, labelled=False)
    file_set = open_files(name, "input", schema, config)
    columns = schema.columns
    kept_names: tuple[str, ...] = ()
    if keep is not None:
        kept_names = _resolve_columns_of_file(keep, file_set, schema, config)
        columns = with_kept_columns(schema.columns, kept_names)
    return PredictionInput(
        file_set.source,
        schema,
        lambda bad: file_set.read(columns, config, bad),
        kept_names,
        file_set.unit,
        file_set,
    )


def check_sentence_columns(rows: PredictionInput, config: DataConfig) -> None:
    """Raise DataError if the first file does not have the columns of data.sentence."""
    if rows.file_set is None:
        return
    names = column_names(rows.file_set.first, rows.schema, config)
    for column in sentence_columns(config):
        if isinstance(column, str) and column not in (names or ()):
            raise DataError(
                f"data.sentence: column {column!r} not found (columns:"
                f" {format_list(names or ()) or 'none'})",
                where=rows.file_set.first.name,
                hint=suggest(column, names or ()),
            )


def _resolve_columns_of_file(
    keep: Any, file_set: FileSet, schema: RowSchema, config: DataConfig
) -> tuple[str, ...]:
    """The columns that ``keep`` selects from the first file, or from the names of the files."""
    selected = list(keep) if isinstance(keep, (list, tuple)) else [keep]
    if all(name in DERIVED_COLUMNS for name in selected):
        return tuple(dict.fromkeys(selected))
    names = column_names(file_set.first, schema, config)
    if names is not None and keep != KEEP_ALL:
        names = [*names, *DERIVED_COLUMNS]
    return resolve_kept_columns(keep, names, file_set.first.name)


def resolve_kept_columns(keep: Any, names: Sequence[str] | None, source: str) -> tuple[str, ...]:
    """The columns that ``keep`` selects from ``names`` (None: the columns have no names).

    Raises DataError for a column that does not exist, with the closest name.
    """
    if keep is None:
        return ()
    if names is None:
        raise DataError(
            "keep is not supported here, because the columns have no names",
            where=source,
            hint="Use CSV with a header, JSON Lines or Parquet, or leave out keep",
        )
    if keep == KEEP_ALL:
        return tuple(names[: names.top_level] if isinstance(names, ObjectKeys) else names)
    selected = list(keep) if isinstance(keep, (list, tuple)) else [keep]
    for name in map(str, selected):
        if name not in names:
            raise DataError(
                f"keep: column {name!r} not found (columns: {format_list(names) or 'none'})",
                where=source,
                hint=suggest(name, names),
            )
    return tuple(dict.fromkeys(map(str, selected)))


def check_rows(
    rows: PredictionInput,
    config: DataConfig,
    on_progress: Callable[[int], object] = lambda rows_read: None,
) -> InputSummary:
    """Read an input once, without tokenizing it.

    ``on_progress`` is called every 1,000 rows with the number of rows read.

    Raises:
        DataError: there are no rows; or invalid ones, and data.on_bad_row is ``error``.
    """
    summary, bad = InputSummary(), InputErrors(rows.name, rows.unit, rows.locations)
    types = [_TypeTracker() for _ in rows.kept_names]
    is_header_checked = not rows.has_separator
    for row in _propose_columns(_iter_rows(rows, bad), rows, config):
        if row.values is not None and not is_header_checked:
            check_unmarked_header(rows_to_table([row], rows.schema), bad, rows.schema, config)
            is_header_checked = True
        for tracker, value in zip(types, row.kept_values, strict=False):
            tracker.add(value)
        summary.rows += 1
        if summary.rows % _PROGRESS_ROWS == 0:
            on_progress(summary.rows)
    raise_or_skip([bad], config.on_bad_row)
    if not summary.rows:
        raise DataError("there are no rows", where=rows.name)
    declared = _column_types(rows)
    summary.kept_types = {
        name: declared.get(name, tracker.arrow_type())
        for name, tracker in zip(rows.kept_names, types, strict=True)
    }
    return summary


def iter_row_blocks(
    rows: PredictionInput,
    errors: InputErrors,
    max_rows: int,
    max_characters: int,
    skip_rows: int = 0,
) -> Iterator[list[InputRow]]:
    """The rows in order, in blocks, without the first ``skip_rows``; ``errors`` counts all of them.

    A block ends with the row that reaches ``max_rows``, or with ``max_characters`` at a multiple of
    64 rows if those are not too long, so that few sizes of batches occur. The blocks of an input
    that is not live depend on its rows alone.
    """
    if not rows.is_live:
        remaining_rows = islice(_iter_rows(rows, errors), skip_rows, None)
        yield from _split_blocks(remaining_rows, max_rows, max_characters)
        return
    for block in _iter_live_blocks(rows, errors, max_rows, max_characters):
        skipped = min(skip_rows, len(block))
        skip_rows -= skipped
        if len(block) > skipped:
            yield block[skipped:]


def rows_to_table(rows: Sequence[InputRow], schema: RowSchema) -> pa.Table:
    """The valid ``rows`` as the table of ``Rows``."""
    columns = zip(*([*(row.values or ()), row.line] for row in rows), strict=True)
    arrow_schema = schema.arrow_schema
    return pa.table(
        [
            pa.array(column, column_field.type)
            for column, column_field in zip(columns, arrow_schema, strict=True)
        ],
        schema=arrow_schema,
    )


def _split_blocks(
    rows: Iterator[InputRow], max_rows: int, max_characters: int
) -> Iterator[list[InputRow]]:
    block: list[InputRow] = []
    size = 0
    for row in rows:
        block.append(row)
        size += row.size
        is_even = len(block) % _BLOCK_ROW_MULTIPLE == 0 or size >= 4 * max_characters
        if len(block) >= max_rows or (size >= max_characters and is_even):
            yield block
            block, size = [], 0
    if block:
        yield block


class InputErrors(BadRows):
    """The invalid rows of an input; ``on_error`` is called with the line and error of each."""

    on_error: Callable[[int, RowError], object] = staticmethod(lambda line, error: None)

    def add(self, line: int, error: RowError) -> None:
        super().add(line, error)
        self.on_error(line, error)


class _RowParser:
    """Passes the row of each record to ``emit``, in order, and a row for each error of the reader.

    The reader adds its errors to ``errors`` between two records.
    """

    def __init__(
        self, rows: PredictionInput, errors: InputErrors, emit: Callable[[InputRow], object]
    ) -> None:
        self._schema, self._errors, self._emit = rows.schema, errors, emit
        self._kept_names, self._kept_values = rows.kept_names, ()
        self._field_count = len(rows.schema.columns.all_columns)
        errors.on_error = lambda line, error: emit(InputRow(line, None, self._kept_values, error))

    def __call__(self, record: Record) -> None:
        line, fields = record
        kept_values, ignored = tuple(fields[self._field_count :]), list[str]()
        try:
            for name, value in zip(self._kept_names, kept_values, strict=False):
                _check_kept(value, name)
            values = self._schema.parse(fields[: self._field_count], "input", ignored)
        except RowError as error:
            self._kept_values = kept_values
            self._errors.add(line + error.line_offset, error)
            self._kept_values = ()
            return
        self._errors.dropped.update(ignored)
        self._emit(InputRow(line, values, kept_values))


def _iter_rows(rows: PredictionInput, errors: InputErrors) -> Iterator[InputRow]:
    buffer: deque[InputRow] = deque()
    parse = _RowParser(rows, errors, buffer.append)
    for record in rows.read(errors):
        parse(record)
        while buffer:
            yield buffer.popleft()
    yield from buffer


def _iter_live_blocks(
    rows: PredictionInput, errors: InputErrors, max_rows: int, max_characters: int
) -> Iterator[list[InputRow]]:
    """Rows as they arrive: a block also ends where no further row is available."""
    # None is the end of the input.
    row_queue: queue.Queue[InputRow | BaseException | None] = queue.Queue(maxsize=_QUEUE_ROWS)

    def read_input() -> None:
        try:
            parse = _RowParser(rows, errors, row_queue.put)
            for record in rows.read(errors):
                parse(record)
            row_queue.put(None)
        except BaseException as error:  # raised again in the consumer's thread
            row_queue.put(error)

    threading.Thread(target=read_input, name="bertft-input", daemon=True).start()
    while True:
        item = row_queue.get()
        block, size = [], 0
        while isinstance(item, InputRow):
            block.append(item)
            size += item.size
            if len(block) >= max_rows or size >= max_characters:
                break
            try:
                item = row_queue.get(timeout=_IDLE_SECONDS)
            except queue.Empty:
                break
        if block:
            yield block
        if isinstance(item, BaseException):
            raise item
        if item is None:
            return


def _check_kept(value: Any, name: str) -> None:
    """Raise RowError if the value of a kept column cannot be written."""
    if isinstance(value, (list, dict)):
        value = json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, str):
        check_characters(value, name)


class _TypeTracker:
    """The Arrow type that holds all values of a kept column."""

    def __init__(self) -> None:
        self._kinds: set[str] = set()

    def add(self, value: Any) -> None:
        if value is None:
            return
        kind = type(value).__name__
        if kind == "int" and abs(value) > _MAX_EXACT_INTEGER:
            kind = "large int" if -(1 << 63) <= value < 1 << 63 else "huge int"
        self._kinds.add(kind)

    def arrow_type(self) -> pa.DataType:
        if self._kinds == {"bool"}:
            return pa.bool_()
        if self._kinds and self._kinds <= {"int", "large int"}:
            return pa.int64()
        if self._kinds and self._kinds <= {"int", "float"}:
            return pa.float64()
        return pa.string()


def _propose_columns(
    read: Iterator[InputRow], rows: PredictionInput, config: DataConfig
) -> Iterator[InputRow]:
    """``read``; an error about a missing text column proposes a column of the file."""
    try:
        yield from read
    except ColumnNotFound as error:
        if error.path is not None:
            error.proposed_settings = propose_text_column(error.path, rows.schema, config, error)
        raise


def _column_types(rows: PredictionInput) -> dict[str, pa.DataType]:
    """The types of the columns of a Parquet or Arrow file that have one value per row."""
    if rows.file_set is None:
        return {}
    first = rows.file_set.first
    return {
        column.name: column.type
        for column in first.format.schema(first.path) or ()
        if pa.types.is_primitive(column.type) or pa.types.is_decimal(column.type)
    }


def with_kept_columns(columns: ColumnSpec, names: Sequence[str]) -> ColumnSpec:
    """``columns`` with ``names`` as optional columns."""
    return replace(columns, optional=(*columns.optional, *names))
