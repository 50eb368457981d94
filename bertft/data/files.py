"""A user's own files → records, by the file's ending.

    .csv  .tsv .tab  .jsonl .ndjson  .parquet .pq  .txt (a text a line, no labels)

The form of the rows may read endings in its own way, or all that no other format has. Any other
ending is read as CSV where data.separator is given.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from bertft.config.data import DataConfig
from bertft.data.bad_rows import BadRows
from bertft.data.columnar import read_parquet
from bertft.data.columns import Asked
from bertft.data.forms.form import RowForm
from bertft.data.json_lines import read_json_lines
from bertft.data.separated import Record, read_separated
from bertft.data.text_files import open_text, text_lines
from bertft.errors import DataError

__all__ = ["PARQUET", "is_file_name", "read_file", "read_stream"]

_SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
_JSON_LINES = (".jsonl", ".ndjson")
PARQUET = (".parquet", ".pq")
_NO_QUOTING = (".tsv", ".tab")
_TEXT = ".txt"
_KNOWN = (*_SEPARATORS, *_JSON_LINES, *PARQUET, _TEXT)


def is_file_name(name: str, form: RowForm) -> bool:
    """Whether ``name`` ends as a file of rows does, and so is no split of a Hub data set."""
    return Path(name).suffix.lower() in (*_SEPARATORS, *_JSON_LINES, *PARQUET, *form.readers)


def read_file(path: Path, form: RowForm, config: DataConfig, bad: BadRows) -> Iterator[Record]:
    """(line, asked fields) of each row. Raises DataError; rows that do not parse go to ``bad``."""
    ending, columns = path.suffix.lower(), form.columns
    if ending in form.readers:
        yield from form.readers[ending](path, columns, config, bad)
    elif form.reader is not None and ending not in _KNOWN:
        yield from form.reader(path, columns, config, bad)
    elif ending in PARQUET:
        yield from read_parquet(path, columns, bad.source)
    elif ending in _JSON_LINES:
        with open_text(path, config.encoding, "\n") as file:
            yield from read_json_lines(file, columns, config.encoding, bad)
    elif ending == _TEXT and config.separator is None and len(columns.text + columns.label) == 1:
        with open_text(path, config.encoding, "\n") as file:
            yield from _texts(text_lines(file, bad.source, config.encoding), columns)
    else:
        yield from _separated(path, ending, form, config, bad)


def read_stream(
    stream: BinaryIO, columns: Asked, config: DataConfig, bad: BadRows
) -> Iterator[Record]:
    """JSON lines from an open binary stream."""
    yield from read_json_lines(
        open_text(stream, config.encoding, "\n"), columns, config.encoding, bad
    )


def _separated(
    path: Path, ending: str, form: RowForm, config: DataConfig, bad: BadRows
) -> Iterator[Record]:
    given = config.separator
    separator = {"\\t": "\t"}.get(given, given) if given is not None else _SEPARATORS.get(ending)
    if separator is None:
        known = (*_SEPARATORS, *_JSON_LINES, *PARQUET, *form.readers)
        raise DataError(
            f"{ending or 'no ending'} does not say how to read the file", where=bad.source,
            hint=f"Known are {', '.join(known)}; any other with data.separator=<character>; a task"
            " has forms of its own, as data.task=token_classification reads .conll",
        )  # fmt: skip
    if separator in ("", '"', "\n", "\r"):
        raise DataError(f"{separator!r} cannot separate columns", where="data.separator")
    quoting = config.quoting and ending not in _NO_QUOTING
    with open_text(path, config.encoding, "" if quoting else "\n") as file:
        yield from read_separated(
            file,
            form.columns,
            separator=separator,
            quoting=quoting,
            header=config.header,
            encoding=config.encoding,
            bad=bad,
        )


def _texts(lines: Iterator[str], columns: Asked) -> Iterator[Record]:
    for number, line in enumerate(lines, start=1):
        yield number, [line.rstrip("\r\n"), *[None] * len(columns.optional)]
