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
from bertft.config.regular_file import open_regular, unreadable
from bertft.data.bad_rows import BadRows
from bertft.data.checks import batches_of, table_of
from bertft.data.forms.form import RowForm
from bertft.data.kept import cache_folder, find, publish
from bertft.data.origin import Origin
from bertft.errors import DataError, EnvironmentFailed

__all__ = ["CODE_VERSION", "SMALL", "read"]

CODE_VERSION = 5  # raise it whenever the same file and settings should give other rows
SMALL = 1 << 20  # bytes of a file that is read as fast as it would be found

_BAD = b"bertft.bad"
# What is done with rows after they were read, and where they are; all else is part of the key.
_ELSEWHERE = {
    "name", "source", "train", "validation", "unlabelled", "test", "hub", "subset", "sample",
    "max_train_rows", "max_validation_rows", "validation_fraction", "max_length", "on_bad_row",
    "max_skipped", "metric", "stride", "max_answer_length", "no_answer_threshold", "scorer",
    "mlm_probability", "whole_words", "seed", "cache",
}  # fmt: skip


def read(
    origin: Origin, form: RowForm, split: str, config: DataConfig, keep: bool = True
) -> tuple[pa.Table, BadRows]:
    """The records of ``origin`` that can be used, as the table of ``Rows``, and the others.

    ``keep`` False, or a cache that cannot be written: the rows are held in memory. Raises what
    reading raises, and DataError for a file that is written to while it is read.
    """
    path = origin.path
    if keep and path is not None and path.stat().st_size >= SMALL:
        folder, content = cache_folder(config.cache) / "rows", _content(path)
        key = _key(content, path.suffix.lower(), form, split, config)
        found = find(folder, key, lambda kept: _open(kept, origin, form))
        if found is not None:
            return found
        with suppress(EnvironmentFailed, FileNotFoundError):
            bad = BadRows(origin.source, origin.unit)
            kept = publish(
                folder, key, batches_of(origin.records(bad), form, split, bad), form.arrow,
                lambda: {_BAD: bad.to_json().encode()},
            )  # fmt: skip
            if _content(path) != content:
                kept.unlink(missing_ok=True)
                raise DataError(
                    "the file was written to while it was read", where=origin.source,
                    hint="Run again when it is whole",
                )  # fmt: skip
            return _open(kept, origin, form)
    bad = BadRows(origin.source, origin.unit, keep_every=not keep)
    table = table_of(origin.records(bad), form, split, bad)
    bad.check_conserved(table.num_rows)
    return table, bad


def _key(content: str, ending: str, form: RowForm, split: str, config: DataConfig) -> str:
    settings = {name: value for name, value in asdict(config).items() if name not in _ELSEWHERE}
    kind = [type(form).__module__, form.arrow.to_string(), form.unit(ending)]
    # A package's reader or rows may change with its version.
    readers = [name for name, each in READERS.items().items() if ending in each.endings]
    owners = [TASKS.package(config.task), *(READERS.package(name) for name in readers)]
    kind += [str(package) for package in owners if package is not None]
    parts = json.dumps([CODE_VERSION, content, ending, kind, split, settings], default=str)
    return hashlib.sha256(parts.encode()).hexdigest()


def _content(path: Path) -> str:
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise unreadable(error, path) from error


def _open(path: Path, origin: Origin, form: RowForm) -> tuple[pa.Table, BadRows]:
    """The table in ``path``, and what its reader reported. pa.ArrowInvalid if it is none.

    The cache may be shared: its bytes are whole, and who wrote them is not known.
    """
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source.read_buffer())
    last = reader.num_record_batches - 1
    if last < 0 or not reader.schema.equals(form.arrow, check_metadata=False):
        raise pa.ArrowInvalid("rows of another form")
    _, told = reader.get_batch_with_custom_metadata(last)
    batches = [reader.get_batch(each) for each in range(last)]
    table = pa.Table.from_batches(batches, reader.schema)
    try:
        bad = BadRows.from_json((told or {})[_BAD], origin.source, origin.unit)
        bad.check_conserved(table.num_rows)
    except (LookupError, TypeError, ValueError, RuntimeError) as error:
        raise pa.ArrowInvalid(f"no account of its rows: {error}") from error
    return table, bad
