"""The output of ``bertft predict``: JSON Lines, CSV or Parquet.

    JSON Lines   the predictions as they are
    CSV          one column per value: ``scores`` is scores.<class>, lists are JSON text
    Parquet      the same columns as CSV, with types

A file is written as ``<name>.partial`` in the same folder and renamed when it is complete, so that
the output never has an incomplete row. If prediction is interrupted, the rows that are done become
the output. A killed process leaves the ``.partial`` file, which the next one replaces.
"""

from __future__ import annotations

import csv
import datetime
import io
import json
import math
import os
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa

from bertft.config.data_files import resolve_files
from bertft.errors import UsageError
from bertft.utils.atomic_io import fsync_folder
from bertft.utils.messages import closest_name, expand_home
from bertft.utils.terminal import is_output_closed, supports_unicode

__all__ = ["PredictionWriter", "check_output_path", "open_output"]

# Characters that a terminal interprets; JSON itself escapes only those below U+0020.
_CONTROL_CHARACTERS = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_JSON_EXTENSIONS = (".jsonl", ".ndjson")
_CSV_EXTENSION, _PARQUET_EXTENSION = ".csv", ".parquet"
_EXTENSIONS = (*_JSON_EXTENSIONS, _CSV_EXTENSION, _PARQUET_EXTENSION)
_ROW_GROUP_SIZE = 16_384  # rows per row group of a Parquet file
_INTEGER_KEYS = ("line", "start", "end")
_PARTIAL_SUFFIX = ".partial"

Prediction = Mapping[str, Any]


def check_output_path(name: str, input_names: Any) -> None:
    """UsageError if the output cannot be written, before anything is computed.

    ``input_names``: the value of the setting input.
    """
    if name == "-":
        if is_output_closed(sys.stdout):
            hint = f"Set output=<file> ({', '.join(_EXTENSIONS)})"
            raise UsageError("standard output is closed", where="output=-", hint=hint)
        return
    path, where = expand_home(name, "output"), f"output={name}"
    if path.is_dir():
        raise UsageError("is a folder", where=where, hint="Use a file in it")
    input_files = resolve_files(input_names, "input") if input_names != "-" else ()
    if path.exists() and any(map(path.samefile, input_files)):
        raise UsageError("is also the input", where=where, hint="Use another file")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent}", where=where, hint="Create it first")
    if not _is_special(path) and path.suffix.lower() not in _EXTENSIONS:
        closest = closest_name(path.suffix.lower(), _EXTENSIONS)
        problem = f"unknown file extension {path.suffix}" if path.suffix else "has no extension"
        raise UsageError(
            problem,
            where=where,
            hint=f"{f'Did you mean {closest}? ' if closest else ''}Use .jsonl (JSON Lines), .csv or"
            " .parquet",
        )


class PredictionWriter(ABC):
    """Writes predictions in blocks.

    Attributes:
        count: the predictions that are written as complete rows.
        is_closed: whether the reader of a pipe has closed it.
    """

    count = 0
    is_closed = False

    @abstractmethod
    def write(self, predictions: Sequence[Prediction]) -> None:
        """Write a block."""

    def finish(self) -> None:
        """Make the output final; also to keep the complete rows after an interruption."""

    def discard(self) -> None:
        """Remove what was written to a file."""


def open_output(
    name: str, columns: Sequence[str], kept_types: Mapping[str, pa.DataType]
) -> PredictionWriter:
    """The writer of ``name``, by its extension; ``-`` is standard output.

    Args:
        columns: the columns of a table, in order.
        kept_types: the types of those that come from the input.
    """
    if name == "-":
        return _StreamWriter(sys.stdout)
    path = expand_home(name, "output")
    if _is_special(path):
        return _StreamWriter(path.open("w", encoding="utf-8"), close=True)
    extension, path = path.suffix.lower(), path.resolve()
    if extension == _CSV_EXTENSION:
        return _CsvWriter(path, columns)
    if extension == _PARQUET_EXTENSION:
        return _ParquetWriter(path, columns, kept_types)
    return _JsonLinesWriter(path)


class _StreamWriter(PredictionWriter):
    """JSON Lines to standard output, a pipe or a device; flushed after each block."""

    def __init__(self, stream: TextIO, close: bool = False) -> None:
        self._stream, self._closes = stream, close
        self._escapes = not supports_unicode(stream)

    def write(self, predictions: Sequence[Prediction]) -> None:
        self._stream.write("".join(_json_line(row, self._escapes) for row in predictions))
        self.count += len(predictions)  # before the reader sees them and may send a signal
        self._stream.flush()
        self.is_closed = is_output_closed(self._stream)

    def finish(self) -> None:
        if self._closes:
            self._stream.close()

    def discard(self) -> None:
        self.finish()


class _FileWriter(PredictionWriter):
    """A file that gets its name when it is complete."""

    def __init__(self, path: Path) -> None:
        self._path, self._partial = path, path.with_name(path.name + _PARTIAL_SUFFIX)
        self._file = _create_partial(self._partial, path)

    def finish(self) -> None:
        self._end_file()
        os.fsync(self._file.fileno())
        # Renamed before it is closed: closing ends the lock.
        os.replace(self._partial, self._path)
        self._file.close()
        fsync_folder(self._path.parent)

    def discard(self) -> None:
        with suppress(OSError):
            self._partial.unlink()
        with suppress(OSError):
            self._file.close()

    def _end_file(self) -> None:
        """Complete the content of the file."""


class _TextFileWriter(_FileWriter):
    """Lines of text. An interruption within ``write`` leaves the complete blocks before it."""

    def __init__(self, path: Path, header: str = "") -> None:
        super().__init__(path)
        self._complete = (0, 0)  # bytes, rows
        self._append(header, 0)

    @property
    def count(self) -> int:  # type: ignore[override]
        return self._complete[1]

    def _append(self, text: str, rows: int) -> None:
        data = memoryview(text.encode("utf-8"))
        size = len(data)
        while data:
            data = data[self._file.write(data) :]
        self._complete = (self._complete[0] + size, self._complete[1] + rows)

    def _end_file(self) -> None:
        self._file.truncate(self._complete[0])


class _JsonLinesWriter(_TextFileWriter):
    def write(self, predictions: Sequence[Prediction]) -> None:
        self._append("".join(map(_json_line, predictions)), len(predictions))


class _CsvWriter(_TextFileWriter):
    """Columns as in ``flatten_prediction``. Empty fields are null."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self._columns = columns
        super().__init__(path, self._format([dict(zip(columns, columns, strict=True))]))

    def write(self, predictions: Sequence[Prediction]) -> None:
        rows = [flatten_prediction(prediction, self._columns) for prediction in predictions]
        self._append(self._format(rows), len(rows))

    def _format(self, rows: Sequence[Prediction]) -> str:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([[_csv_field(row.get(name)) for name in self._columns] for row in rows])
        return text.getvalue()


class _ParquetWriter(_FileWriter):
    """Row groups of several blocks. The first group determines the types of the columns."""

    def __init__(
        self, path: Path, columns: Sequence[str], kept_types: Mapping[str, pa.DataType]
    ) -> None:
        super().__init__(path)
        self._columns, self._kept_types = columns, kept_types
        self._schema: pa.Schema | None = None
        self._writer: Any = None
        self._pending: list[Prediction] = []
        self._written = 0

    @property
    def count(self) -> int:  # type: ignore[override]
        return self._written + len(self._pending)

    def write(self, predictions: Sequence[Prediction]) -> None:
        self._pending += [flatten_prediction(row, self._columns) for row in predictions]
        if len(self._pending) >= _ROW_GROUP_SIZE:
            self._write_group()

    def _write_group(self) -> None:
        import pyarrow.parquet as pq

        rows, self._pending = self._pending, []
        if self._writer is None:
            self._schema = pa.schema(
                [(name, self._column_type(name, rows)) for name in self._columns]
            )
            self._writer = pq.ParquetWriter(self._file, self._schema)
        assert self._schema is not None
        arrays = [
            pa.array([_to_type(row.get(column.name), column.type) for row in rows], column.type)
            for column in self._schema
        ]
        self._writer.write_table(pa.table(arrays, schema=self._schema))
        self._written += len(rows)

    def _column_type(self, name: str, rows: Sequence[Prediction]) -> pa.DataType:
        if name in self._kept_types:
            return self._kept_types[name]
        if name in _INTEGER_KEYS:
            return pa.int64()
        if name == "score" or name.startswith("scores."):
            return pa.float64()
        value = next((row[name] for row in rows if row.get(name) is not None), None)
        types = {bool: pa.bool_(), int: pa.int64(), float: pa.float64()}
        return types.get(type(value), pa.string())

    def _end_file(self) -> None:
        if self._pending or self._writer is None:
            self._write_group()
        self._writer.close()


def flatten_prediction(prediction: Prediction, columns: Sequence[str]) -> dict[str, Any]:
    """One value per column: ``scores`` becomes scores.<class>; other lists and objects, JSON."""
    row: dict[str, Any] = {}
    for name, value in prediction.items():
        if isinstance(value, dict) and name == "scores":
            row.update({f"{name}.{key}": item for key, item in value.items()})
        else:
            row[name] = _to_json(value) if isinstance(value, (dict, list)) else value
    if "scores" in columns and "scores" not in row:  # a task whose classes have no names
        row["scores"] = _to_json(prediction.get("scores"))
    return row


def _to_type(value: Any, arrow_type: pa.DataType) -> Any:
    if value is None or not pa.types.is_string(arrow_type) or isinstance(value, str):
        return value
    return _to_json(value)


def _csv_field(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    return value


def _json_line(prediction: Prediction, escape: bool = False) -> str:
    line = _to_json(prediction, escape)
    return _CONTROL_CHARACTERS.sub(lambda match: f"\\u{ord(match[0]):04x}", line) + "\n"


def _to_json(value: Any, escape: bool = False) -> str:
    try:
        return json.dumps(value, ensure_ascii=escape, allow_nan=False, default=_json_default)
    except ValueError:  # NaN or infinity, which JSON does not have
        return json.dumps(_without_nan(value), ensure_ascii=escape, default=_json_default)


def _json_default(value: Any) -> Any:
    """Values of Parquet files that JSON does not have."""
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    item = getattr(value, "item", None)  # a NumPy scalar
    return item() if callable(item) else str(value)


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return value


def _create_partial(partial: Path, path: Path) -> io.FileIO:
    """Create and lock the partial file. UsageError if another process is writing it."""
    with suppress(FileNotFoundError):
        with partial.open("rb") as existing:
            if not _try_lock(existing):
                raise UsageError(
                    "another process is writing this file", where=str(path), hint="Use another name"
                )
        partial.unlink()
    file = partial.open("xb", buffering=0)
    _try_lock(file)
    return file


def _try_lock(file: Any) -> bool:
    """Lock the file; False if another process has the lock. True where locks are not supported."""
    try:
        import fcntl
    except ImportError:  # pragma: no cover
        return True
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _is_special(path: Path) -> bool:
    """Whether ``path`` is a pipe or a device, which is written to and not replaced."""
    return path.exists() and not path.is_file()
