"""A user's own files → records, by the file's ending, which its content must bear out.

    .csv  .tsv .tab  .jsonl .ndjson  .json (JSON Lines too)  .parquet .pq  .txt (one text per line)

and those of the readers that other packages register (``bertft.config.registry.READERS``). The
form of the rows may read endings in its own way (``RowForm.readers``), and files without one. A
file with any other ending is refused, unless data.separator says how its columns are separated.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from bertft.config.data import DataConfig
from bertft.config.messages import listing, nearest
from bertft.config.registry import READERS, Reader
from bertft.data.bad_rows import BadRows
from bertft.data.columns import Asked
from bertft.data.forms.form import RowForm
from bertft.data.json_lines import read_json_lines
from bertft.data.separated import Record, read_separated_file
from bertft.data.sniff import checked_first_line, first_line, json_document, json_object
from bertft.data.text_files import open_text, text_lines
from bertft.errors import DataError

__all__ = ["PARQUET", "is_file_name", "is_separated", "read_file", "read_stream", "read_text_file"]

PARQUET = READERS["parquet"].endings
_TEXT = ".txt"


def is_file_name(name: str, form: RowForm) -> bool:
    """Whether ``name`` ends as a file of rows does, and so is no split of a Hub data set."""
    return Path(name).suffix.lower() in _endings_of_rows(form)


def is_separated(path: Path, form: RowForm, config: DataConfig) -> bool:
    """Whether the file is read as columns with a separator between them."""
    ending = path.suffix.lower()
    _, reader = _reader_of(ending)
    if ending in form.readers:
        return False
    if reader is not None and (reader.separated or not reader.refuses_json_lines):
        return reader.separated
    return config.separator is not None


def read_file(path: Path, form: RowForm, config: DataConfig, bad: BadRows) -> Iterator[Record]:
    """(line, asked fields) of each row. Raises DataError; rows that do not parse go to ``bad``."""
    ending, columns = path.suffix.lower(), form.columns
    name, reader = _reader_of(ending)
    own = form.readers.get(ending)
    if reader is not None and not reader.text:
        yield from READERS.implementation(name, "read")(path, columns, config, bad)
        return
    line = checked_first_line(path, config.encoding, bad.source)
    if reader is not None and not reader.refuses_json_lines:
        read = own or READERS.implementation(name, "read")
        yield from read(path, columns, config, bad)
        return
    content = json_object(line)
    lines_alone = len(columns.text + columns.label) == 1 and config.separator is None
    if content is not None and not (ending == _TEXT and columns.text[0] not in content):
        raise DataError(
            "the file holds JSON Lines: its first line is a JSON object", where=bad.source,
            hint=f"Rename it to {path.stem}.jsonl",
        )  # fmt: skip
    if own is not None:
        yield from own(path, columns, config, bad)
    elif reader is not None and not reader.separated and lines_alone:
        yield from READERS.implementation(name, "read")(path, columns, config, bad)
    elif form.reader is not None and reader is None and (not ending or config.separator):
        yield from form.reader(path, columns, config, bad)
    elif reader is not None and reader.separated:
        yield from READERS.implementation(name, "read")(path, columns, config, bad)
    elif config.separator is not None:
        yield from read_separated_file(path, columns, config, bad)
    else:
        raise _unknown(ending, form, bad.source, lines_alone)


def _reader_of(ending: str) -> tuple[str, Reader | None]:
    """Name and description of the reader that is registered for an ending; None: there is none."""
    readers = READERS.items().items()
    return next(((name, each) for name, each in readers if ending in each.endings), ("", None))


def _endings_of_rows(form: RowForm, texts: bool = False) -> list[str]:
    """The endings of files whose rows can have labels; ``texts``: those without them too."""
    readers = [each for each in READERS.items().values() if each.labelled or texts]
    endings = [ending for each in readers for ending in each.endings]
    return list(dict.fromkeys((*endings, *form.readers)))


def read_stream(
    stream: BinaryIO, columns: Asked, config: DataConfig, bad: BadRows
) -> Iterator[Record]:
    """JSON lines from an open binary stream."""
    yield from read_json_lines(
        open_text(stream, config.encoding, "\n"), columns, config.encoding, bad
    )


def _unknown(ending: str, form: RowForm, source: str, texts: bool) -> DataError:
    """``texts``: a .txt file would be read as one text per line."""
    known = _endings_of_rows(form, texts)
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


def read_text_file(
    path: Path, columns: Asked, config: DataConfig, bad: BadRows
) -> Iterator[Record]:
    """One text per line."""
    if json_document(first_line(path, config.encoding)):
        raise DataError(
            "the file holds a JSON document, not one text per line", where=bad.source,
            hint="Write each row on a line of its own: jq -c '.[]' rows.json > rows.jsonl",
        )  # fmt: skip
    with open_text(path, config.encoding, "\n") as file:
        yield from _texts(text_lines(file, bad, config.encoding), columns, bad)


def _texts(lines: Iterator[str], columns: Asked, bad: BadRows) -> Iterator[Record]:
    """A row per line, a blank one too: answers stay aligned with the lines of the file."""
    for number, line in enumerate(lines, start=1):
        bad.count_row()
        yield number, [line.rstrip("\r\n"), *[None] * len(columns.optional)]
