"""A user's own files → records, by the file's ending, which its content must bear out.

    .csv  .tsv .tab  .jsonl .ndjson  .json (JSON Lines too)  .parquet .pq  .txt (a text a line)

The form of the rows may read endings in its own way (``RowForm.readers``), and files without one. A
file with any other ending is refused, unless data.separator says how its columns are separated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from bertft.config.data import DataConfig
from bertft.config.messages import listing, nearest
from bertft.data.bad_rows import BadRows
from bertft.data.columnar import read_parquet
from bertft.data.columns import Asked
from bertft.data.forms.form import RowForm
from bertft.data.json_lines import read_json_lines
from bertft.data.separated import Record, named_separator, read_separated
from bertft.data.sniff import check_content, first_line, json_document, json_object
from bertft.data.text_files import open_text, text_lines
from bertft.errors import DataError

__all__ = ["PARQUET", "is_file_name", "is_separated", "read_file", "read_stream"]

_SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
_JSON_LINES = (".jsonl", ".ndjson", ".json")
PARQUET = (".parquet", ".pq")
_TEXT = ".txt"
_KNOWN = (*_SEPARATORS, *_JSON_LINES, *PARQUET, _TEXT)
# The first line, for Excel, which fills it up with separators when it saves the file again.
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\1*[ ]*', re.IGNORECASE)


def is_file_name(name: str, form: RowForm) -> bool:
    """Whether ``name`` ends as a file of rows does, and so is no split of a Hub data set."""
    return Path(name).suffix.lower() in (*_SEPARATORS, *_JSON_LINES, *PARQUET, *form.readers)


def is_separated(path: Path, form: RowForm, config: DataConfig) -> bool:
    """Whether the file is read as columns with a separator between them."""
    ending = path.suffix.lower()
    if ending in (*PARQUET, *_JSON_LINES, *form.readers):
        return False
    return ending in _SEPARATORS or config.separator is not None


def read_file(path: Path, form: RowForm, config: DataConfig, bad: BadRows) -> Iterator[Record]:
    """(line, asked fields) of each row. Raises DataError; rows that do not parse go to ``bad``."""
    ending, columns = path.suffix.lower(), form.columns
    if ending in PARQUET:
        yield from read_parquet(path, columns, bad)
        return
    check_content(path, config.encoding, bad.source)
    if ending in form.readers and ending in _JSON_LINES:
        yield from form.readers[ending](path, columns, config, bad)
        return
    first = first_line(path, config.encoding)
    content = json_object(first)
    lines_alone = len(columns.text + columns.label) == 1 and config.separator is None
    if ending in _JSON_LINES:
        with open_text(path, config.encoding, "\n") as file:
            yield from read_json_lines(file, columns, config.encoding, bad)
    elif content is not None and not (ending == _TEXT and columns.text[0] not in content):
        raise DataError(
            "the file holds JSON Lines: its first line is a JSON object", where=bad.source,
            hint=f"Rename it to {path.stem}.jsonl",
        )  # fmt: skip
    elif ending in form.readers:
        yield from form.readers[ending](path, columns, config, bad)
    elif ending == _TEXT and lines_alone:
        if json_document(first):
            raise DataError(
                "the file holds a JSON document, not one text per line", where=bad.source,
                hint="Write each row on a line of its own: jq -c '.[]' rows.json > rows.jsonl",
            )  # fmt: skip
        with open_text(path, config.encoding, "\n") as file:
            yield from _texts(text_lines(file, bad, config.encoding), columns, bad)
    elif form.reader is not None and ending not in _KNOWN and (not ending or config.separator):
        yield from form.reader(path, columns, config, bad)
    elif ending in _SEPARATORS or config.separator is not None:
        yield from _separated(path, ending, form, config, bad, first)
    else:
        raise _unknown(ending, form, bad.source, lines_alone)


def read_stream(
    stream: BinaryIO, columns: Asked, config: DataConfig, bad: BadRows
) -> Iterator[Record]:
    """JSON lines from an open binary stream."""
    yield from read_json_lines(
        open_text(stream, config.encoding, "\n"), columns, config.encoding, bad
    )


def _unknown(ending: str, form: RowForm, source: str, texts: bool) -> DataError:
    """``texts``: a .txt file would be read as one text per line."""
    text = (_TEXT,) if texts else ()
    known = list(dict.fromkeys((*_SEPARATORS, *_JSON_LINES, *PARQUET, *text, *form.readers)))
    near = nearest(ending, known)
    closest = f"Did you mean {near}? " if near is not None else ""
    if ending == _TEXT:
        what = "a .txt file holds one text per line and no labels"
    else:
        what = f"the file has the unknown ending {ending}" if ending else "the file has no ending"
    return DataError(
        what, where=source,
        hint=f"{closest}Known endings are {listing(known, 24)}. A table with another ending needs"
        " data.separator=<character> (tab for a tab)",
    )  # fmt: skip


def _separated(
    path: Path, ending: str, form: RowForm, config: DataConfig, bad: BadRows, first: str
) -> Iterator[Record]:
    line = _SEPARATOR_LINE.fullmatch(first)
    separator = named_separator(config.separator)
    if separator is None:
        separator = line[1] if line else _SEPARATORS[ending]
    if separator in ("", '"', "\n", "\r"):
        raise DataError(f"{separator!r} cannot separate columns", where="data.separator")
    quoting = config.quoting
    if quoting is None:  # a tab is no character of a text, and so needs no quotes around it
        quoting = separator != "\t" and len(separator) == 1
    with open_text(path, config.encoding, "" if quoting else "\n") as file:
        yield from read_separated(
            file,
            form.columns,
            separator=separator,
            quoting=quoting,
            header=config.header,
            encoding=config.encoding,
            bad=bad,
            skip_first=line is not None,
            report_quotes=config.quoting is None,
        )


def _texts(lines: Iterator[str], columns: Asked, bad: BadRows) -> Iterator[Record]:
    """A row per line, a blank one too: answers stay aligned with the lines of the file."""
    for number, line in enumerate(lines, start=1):
        bad.count_row()
        yield number, [line.rstrip("\r\n"), *[None] * len(columns.optional)]
