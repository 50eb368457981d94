"""The rows of a large file as they were read before: found again sooner than they are checked.

    cache/rows/<key>.<crc32>.arrow     key = sha256(code version, the file's bytes, how to read)

The table is mapped from there also where it was just made, so that memory does not grow with its
rows. What the reader reported, such as the rows that could not be used, is in the metadata of a
last, empty record batch.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa

from bertft.config.data import DataConfig
from bertft.config.registry import READERS, TASKS
from bertft.config.regular_file import open_regular_file, unreadable
from bertft.data.bad_rows import BadRows
from bertft.data.checks import records_to_batches, records_to_table
from bertft.data.forms.form import RowSchema
from bertft.data.kept import cache_folder, load_cached, store_cached
from bertft.data.origin import DataSource
from bertft.errors import DataError, SystemResourceError

__all__ = ["ROW_CACHE_VERSION", "MIN_CACHED_BYTES", "read_rows"]

ROW_CACHE_VERSION = 5  # raise it whenever the same file and settings should give other rows
MIN_CACHED_BYTES = 1 << 20  # bytes of a file that is read as fast as it would be found

_BAD_ROWS_FIELD = b"bertft.bad"
# What is done with rows after they were read, and where they are; all else is part of the key.
_SETTINGS_OUTSIDE_KEY = {
    "name", "source", "train", "validation", "unlabelled", "test", "hub", "subset", "sample",
    "max_train_rows", "max_validation_rows", "validation_fraction", "max_length", "on_bad_row",
    "max_skipped", "metric", "stride", "max_answer_length", "no_answer_threshold", "scorer",
    "mlm_probability", "whole_words", "seed", "cache",
}  # fmt: skip


def read_rows(
    source: DataSource, schema: RowSchema, split: str, config: DataConfig, use_cache: bool = True
) -> tuple[pa.Table, BadRows]:
    """The records of ``source`` that can be used, as the table of ``Rows``, and the others.

    ``use_cache`` False, or a cache that cannot be written: the rows are held in memory. Raises what
    reading raises, and DataError for a file that is written to while it is read.
    """
    path = source.path
    if use_cache and path is not None and path.stat().st_size >= MIN_CACHED_BYTES:
        folder, content = cache_folder(config.cache) / "rows", _file_hash(path)
        key = _row_cache_key(content, path.suffix.lower(), schema, split, config)
        cached = load_cached(folder, key, lambda kept: _load_table(kept, source, schema))
        if cached is not None:
            return cached
        with suppress(SystemResourceError, FileNotFoundError):
            bad = BadRows(source.source, source.unit)
            cached_path = store_cached(
                folder, key, records_to_batches(source.read(bad), schema, split, bad), schema.arrow_schema,
                lambda: {_BAD_ROWS_FIELD: bad.to_json().encode()},
            )  # fmt: skip
            if _file_hash(path) != content:
                cached_path.unlink(missing_ok=True)
                raise DataError(
                    "the file was written to while it was read", where=source.source,
                    hint="Run again when it is whole",
                )  # fmt: skip
            return _load_table(cached_path, source, schema)
    bad = BadRows(source.source, source.unit, keep_all=not use_cache)
    table = records_to_table(source.read(bad), schema, split, bad)
    bad.check_row_counts(table.num_rows)
    return table, bad


def _row_cache_key(content: str, extension: str, schema: RowSchema, split: str, config: DataConfig) -> str:
    settings = {name: value for name, value in asdict(config).items() if name not in _SETTINGS_OUTSIDE_KEY}
    identity = [type(schema).__module__, schema.arrow_schema.to_string(), schema.record_unit(extension)]
    # A package's reader or rows may change with its version.
    readers = [name for name, reader in READERS.specs().items() if extension in reader.extensions]
    owners = [TASKS.package(config.task), *(READERS.package(name) for name in readers)]
    identity += [str(package) for package in owners if package is not None]
    parts = json.dumps([ROW_CACHE_VERSION, content, extension, identity, split, settings], default=str)
    return hashlib.sha256(parts.encode()).hexdigest()


def _file_hash(path: Path) -> str:
    try:
        with open_regular_file(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise unreadable(error, path) from error


def _load_table(path: Path, data_source: DataSource, form: RowSchema) -> tuple[pa.Table, BadRows]:
    """The table in ``path``, and what its reader reported. pa.ArrowInvalid if it is none.

    The cache may be shared: its bytes are whole, and who wrote them is not known.
    """
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source.read_buffer())
    last = reader.num_record_batches - 1
    if last < 0 or not reader.schema.equals(form.arrow_schema, check_metadata=False):
        raise pa.ArrowInvalid("rows of another form")
    _, metadata = reader.get_batch_with_custom_metadata(last)
    batches = [reader.get_batch(index) for index in range(last)]
    table = pa.Table.from_batches(batches, reader.schema)
    try:
        bad = BadRows.from_json((metadata or {})[_BAD_ROWS_FIELD], data_source.source, data_source.unit)
        bad.check_row_counts(table.num_rows)
    except (LookupError, TypeError, ValueError, RuntimeError) as error:
        raise pa.ArrowInvalid(f"no account of its rows: {error}") from error
    return table, bad
