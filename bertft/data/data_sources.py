"""Data sources of splits: files, bundled samples, and the cache of parsed rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bertft.config.data import DataConfig
from bertft.config.data_files import file_extension
from bertft.config.registry import TASKS
from bertft.data.cache import cache_folder, load_cached, store_cached
from bertft.data.column_blocks import ColumnBlock
from bertft.data.file_contents import FileContents
from bertft.data.file_sets import FileSet, open_files
from bertft.data.formats import detect_format
from bertft.data.labels import class_name_as_number, configured_class_names, to_class_name
from bertft.data.rows import BadRows, RowError, RowExclusion
from bertft.data.schema import ColumnSpec, Record, RowSchema, find_columns
from bertft.errors import DataError, SystemResourceError, UsageError
from bertft.utils.background import prefetch
from bertft.utils.messages import quote_value

__all__ = [
    "MIN_CACHED_BYTES",
    "ROW_CACHE_VERSION",
    "DataSource",
    "OpenFiles",
    "class_names_in_schema",
    "declared_class_names",
    "numbers_to_names",
    "open_file",
    "open_sample",
    "read_records",
    "read_rows",
    "records_to_table",
    "select_class_names",
]

ROW_CACHE_VERSION = 11  # raise it when the same file and settings should give other rows
MIN_CACHED_BYTES = 1 << 20  # smaller files are parsed as fast as the cache is read
_BAD_ROWS_FIELD = b"bertft.bad"
# Settings that do not affect how a file is parsed; all others are part of the cache key.
_SETTINGS_OUTSIDE_KEY = {
    "name",
    "source",
    "train",
    "validation",
    "unlabelled",
    "test",
    "hub",
    "subset",
    "sample",
    "max_train_rows",
    "max_validation_rows",
    "validation_fraction",
    "drop_rows",
    "folds",
    "fold",
    "repeat",
    "max_length",
    "on_bad_row",
    "max_skipped",
    "metric",
    "stride",
    "max_answer_length",
    "no_answer_threshold",
    "scorer",
    "mlm_probability",
    "whole_words",
    "seed",
    "cache",
}
_CHUNK_ROWS = 65_536
_HUB_METADATA_KEY = b"huggingface"


@dataclass(frozen=True)
class DataSource:
    """The rows of one split, not yet read.

    Attributes:
        source: a path, a Hub id or the name of a sample.
        read: yields the records, or blocks of them, and adds invalid rows to its argument.
        class_names: the classes that the source declares.
        files: absolute paths of the files that are read.
        unit: what record numbers count, if not lines.
        file_set: the files, if the rows depend on them alone.
    """

    source: str
    read: Callable[[BadRows], Iterator[Record | ColumnBlock]]
    class_names: list[str] | None = None
    files: tuple[str, ...] = ()
    unit: str = ""
    file_set: FileSet | None = None

    def new_accounting(self) -> BadRows:
        """The accounting of the rows before they are read."""
        locations = self.file_set.locations if self.file_set is not None else ()
        return BadRows(self.source, self.unit, locations)


OpenFiles = Callable[[Any, str, RowSchema, DataConfig], FileSet]


def open_file(
    config: DataConfig,
    value: Any,
    setting: str,
    schema: RowSchema,
    open_files: OpenFiles = open_files,
) -> DataSource:
    """The file or files that ``value`` of ``setting`` selects.

    ``open_files``: a function that reads a part of them instead.
    """
    file_set = open_files(value, setting, schema, config)
    columns = schema.columns
    declared_names = None
    if len(columns.label) == 1:
        declared_names = _class_names_of_files(file_set, columns)
    class_names = select_class_names(declared_names, config.labels)

    def read(bad: BadRows) -> Iterator[Record | ColumnBlock]:
        if declared_names is None and file_set.is_cacheable:
            return file_set.read_blocks(columns, config, bad)
        records = file_set.read(columns, config, bad)
        if declared_names is None:
            return records
        return numbers_to_names(records, len(columns.text), class_names)

    return DataSource(
        file_set.source,
        read,
        class_names,
        files=file_set.absolute_paths,
        unit=file_set.unit,
        file_set=file_set,
    )


def _class_names_of_files(file_set: FileSet, columns: ColumnSpec) -> list[str] | None:
    """The class names that the files declare for the label. DataError if the files differ."""
    declared_names = None
    for file in file_set.files:
        schema = file.format.schema(file.path)
        resolved = columns.resolve_alternatives(None if schema is None else schema.names)
        names = class_names_in_schema(schema, resolved.label[0])
        if file is file_set.first:
            declared_names = names
        elif names != declared_names:
            raise DataError(
                f"does not declare the same class names as {file_set.first.name}",
                where=file.name,
                hint="Read these files as splits of their own, or write them with the same names",
            )
    return declared_names


def open_sample(config: DataConfig, split: str, columns: ColumnSpec) -> DataSource:
    """Split ``split`` of a bundled sample."""
    from bertft.samples import load_sample, sample_names

    if not config.sample:
        raise UsageError(
            "is missing: it is required by data.source=sample",
            where="data.sample",
            hint=f"Set it to {' or '.join(sample_names())}",
        )
    source = f"sample {config.sample}/{split}"
    content = load_sample(config.sample, split)
    names = list(content)
    positions = find_columns(columns, names, len(names), source)
    count = len(next(iter(content.values())))
    columns_read = [
        [None] * count if position is None else content[names[position]] for position in positions
    ]

    def read(bad: BadRows) -> Iterator[Record]:
        bad.count_row(count)
        for line, fields in enumerate(zip(*columns_read, strict=True), start=1):
            yield line, list(fields)

    return DataSource(source, read)


def read_rows(
    source: DataSource, schema: RowSchema, split: str, config: DataConfig
) -> tuple[pa.Table, BadRows]:
    """The valid records of ``source``, as the table of ``Rows``, and the invalid ones.

    If the cache cannot be written, the rows are kept in memory. Raises the errors of the reader,
    and DataError if a file of a megabyte or more changes while it is read.
    """
    file_set = source.file_set
    if file_set is None or not file_set.is_cacheable or file_set.size < MIN_CACHED_BYTES:
        return _read_into_memory(source, schema, split)
    folder = cache_folder(config.cache) / "rows"
    key = _row_cache_key(file_set, schema, split, config)
    with FileContents([file.path for file in file_set.files], source.source) as contents:
        cached = load_cached(
            folder,
            key,
            lambda cached_file: _load_table(cached_file, source, schema),
            lambda: _content_key(contents.hashes()),
        )
        if cached is not None:
            return cached
        if not contents.are_settled:
            contents.hashes()
        with suppress(SystemResourceError, FileNotFoundError):
            bad = source.new_accounting()
            batches = records_to_batches(source.read(bad), schema, split, bad)
            with closing(prefetch(batches)) as parsed_batches:  # while others are written
                cached_path = store_cached(
                    folder,
                    key,
                    parsed_batches,
                    schema.arrow_schema,
                    lambda: {_BAD_ROWS_FIELD: bad.to_json().encode()},
                    lambda: _content_key(contents.final_hashes()),
                )
            return _load_table(cached_path, source, schema)
        rows = _read_into_memory(source, schema, split)
        contents.final_hashes()
        return rows


def _read_into_memory(
    source: DataSource, schema: RowSchema, split: str
) -> tuple[pa.Table, BadRows]:
    bad = source.new_accounting()
    table = records_to_table(source.read(bad), schema, split, bad)
    bad.check_row_counts(table.num_rows)
    return table, bad


def _row_cache_key(file_set: FileSet, schema: RowSchema, split: str, config: DataConfig) -> str:
    """The first part of the key: all that the rows depend on, except the content of the files."""
    settings = {
        name: value for name, value in asdict(config).items() if name not in _SETTINGS_OUTSIDE_KEY
    }
    columns = schema.columns.label
    # Readers and schemas of a package may change with its version.
    files = [
        (
            file.path.stat().st_size,
            file.format.name,
            file.format.package,
            file_extension(file.path),
            [file.derived[str(name)] for name in columns if name in file.derived],
        )
        for file in file_set.files
    ]
    identity = [
        type(schema).__module__,
        str(TASKS.package(config.task) or ""),
        schema.arrow_schema.to_string(),
    ]
    key_content = json.dumps([ROW_CACHE_VERSION, files, identity, split, settings], default=str)
    return hashlib.sha256(key_content.encode()).hexdigest()


def _content_key(hashes: Sequence[str]) -> str:
    """The second part of the key, from the sha256 of each file."""
    return f"-{hashlib.sha256(json.dumps(hashes).encode()).hexdigest()}"


def _load_table(path: Path, data_source: DataSource, schema: RowSchema) -> tuple[pa.Table, BadRows]:
    """The table in ``path``, and its invalid rows. Raises pa.ArrowInvalid.

    The cache may be shared between users: an intact file may still have unexpected content.
    """
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source.read_buffer())
    last = reader.num_record_batches - 1
    if last < 0 or not reader.schema.equals(schema.arrow_schema, check_metadata=False):
        raise pa.ArrowInvalid("rows of another schema")
    _, metadata = reader.get_batch_with_custom_metadata(last)
    batches = [reader.get_batch(index) for index in range(last)]
    table = pa.Table.from_batches(batches, reader.schema)
    try:
        expected = data_source.new_accounting()
        bad = BadRows.from_json(
            (metadata or {})[_BAD_ROWS_FIELD], expected.source, expected.unit, expected.files
        )
        bad.check_row_counts(table.num_rows)
    except (LookupError, TypeError, ValueError, RuntimeError) as error:
        raise pa.ArrowInvalid(f"no valid record of bad rows: {error}") from error
    return table, bad


def records_to_table(
    records: Iterable[Record | ColumnBlock], schema: RowSchema, split: str, bad: BadRows
) -> pa.Table:
    """The valid records, as the table of ``Rows``; the others are added to ``bad``.

    A missing label is null here, because a whole split may have no labels.
    """
    return pa.Table.from_batches(
        list(records_to_batches(records, schema, split, bad)), schema.arrow_schema
    )


def records_to_batches(
    records: Iterable[Record | ColumnBlock], schema: RowSchema, split: str, bad: BadRows
) -> Iterator[pa.RecordBatch]:
    """The record batches of ``records_to_table``, which bound the memory for Python values."""
    return _parse_items(records, schema, split, bad)


def _parse_items(
    records: Iterable[Record | ColumnBlock], schema: RowSchema, split: str, bad: BadRows
) -> Iterator[pa.RecordBatch]:
    rows: list[list[Any]] = []
    ignored: list[str] = []
    for item in records:
        if isinstance(item, ColumnBlock):
            if rows:
                yield _record_batch(rows, schema.arrow_schema)
                rows = []
            yield from _parse_block(item, schema, split, bad)
            continue
        line, fields = item
        try:
            rows.append([*schema.parse(fields, split, ignored), line])
        except RowError as error:
            bad.add(line + error.line_offset, error)
            ignored.clear()
            continue
        except RowExclusion as exclusion:
            bad.exclude(exclusion.reason)
            ignored.clear()
            continue
        if ignored:
            bad.dropped.update(ignored)
            ignored.clear()
        if len(rows) == _CHUNK_ROWS:
            yield _record_batch(rows, schema.arrow_schema)
            rows = []
    if rows:
        yield _record_batch(rows, schema.arrow_schema)


def _parse_block(
    block: ColumnBlock, schema: RowSchema, split: str, bad: BadRows
) -> Iterator[pa.RecordBatch]:
    """The valid rows of a block; rows that may be invalid are parsed one by one."""
    parsed = schema.parse_block(block)
    if parsed is None:
        yield from _parse_items(block.records(), schema, split, bad)
        return
    arrays, is_valid = parsed
    batch = pa.record_batch([*arrays, block.lines], schema=schema.arrow_schema)
    if is_valid.all():
        yield batch
        return
    unclear = block.records(pa.array(np.flatnonzero(~is_valid)))
    table = pa.Table.from_batches(
        [batch.filter(pa.array(is_valid)), *_parse_items(unclear, schema, split, bad)]
    )
    yield from table.sort_by("line").combine_chunks().to_batches()


def _record_batch(rows: list[list[Any]], schema: pa.Schema) -> pa.RecordBatch:
    columns = zip(*rows, strict=True)
    arrays = [
        pa.array(column, column_field.type)
        for column, column_field in zip(columns, schema, strict=True)
    ]
    return pa.record_batch(arrays, schema=schema)


def read_records(
    path: Path, schema: RowSchema, config: DataConfig, bad: BadRows
) -> Iterator[Record]:
    """(line, requested fields) of each row; rows that cannot be parsed are added to ``bad``."""
    file_format = detect_format(path, schema, config, bad.source)
    yield from file_format.read(path, schema.columns, config, bad)


def declared_class_names(feature: Any) -> list[str] | None:
    """The class names of a ClassLabel feature or a list of them; None for any other."""
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


def class_names_in_schema(schema: pa.Schema | None, column: str | int) -> list[str] | None:
    """The class names that ``datasets`` declares for ``column``, a name or a position."""
    if schema is None:
        return None
    try:
        if isinstance(column, int):
            column = schema.names[column]
        content = json.loads((schema.metadata or {})[_HUB_METADATA_KEY])
        return declared_class_names(content["info"]["features"][column])
    except (ValueError, LookupError, TypeError, RecursionError):
        return None


def select_class_names(declared: list[str] | None, configured: Any) -> list[str] | None:
    """The declared names, unless data.labels renames the same class numbers.

    None: the labels stay numbers, as positions in the list data.labels or keys of the mapping.
    Raises UsageError if such a list has the declared names in another case and another order.
    """
    if declared is None or configured is None:
        return declared
    if isinstance(configured, Mapping):
        by_number = all(
            class_name_as_number(to_class_name(key) or "") is not None for key in configured
        )
        return None if by_number else declared
    names = configured_class_names(configured)
    if set(names) & set(declared):
        return declared
    declared_numbers = {name.casefold(): number for number, name in enumerate(declared)}
    for number, name in enumerate(names):
        declared_number = declared_numbers.get(name.casefold(), number)
        if declared_number != number:
            raise UsageError(
                f"lists {quote_value(name)} as class {number}, but in the file"
                f" {quote_value(declared[declared_number])} is class {declared_number}",
                where="data.labels",
                hint="Write the names as in the file; then any order is valid",
            )
    return None


def numbers_to_names(
    records: Iterable[Record], column_index: int, names: Sequence[str] | None
) -> Iterator[Record]:
    """Replace class numbers in field ``column_index`` by names; negative ones by None."""
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
