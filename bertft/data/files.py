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
from bertft.config.messages import format_list, closest_name
from bertft.config.registry import READERS, ReaderSpec
from bertft.data.bad_rows import BadRows
from bertft.data.columns import ColumnSpec
from bertft.data.forms.form import RowSchema
from bertft.data.json_lines import read_json_lines
from bertft.data.separated import Record, read_csv_file
from bertft.data.sniff import checked_first_line, read_first_line, starts_json_document, parse_json_object
from bertft.data.text_files import open_text, iter_lines
from bertft.errors import DataError

__all__ = ["PARQUET_EXTENSIONS", "has_known_extension", "uses_csv_reader", "read_records", "read_json_lines_stream", "read_text_file"]

PARQUET_EXTENSIONS = READERS["parquet"].extensions
_TEXT_EXTENSION = ".txt"


def has_known_extension(name: str, schema: RowSchema) -> bool:
    """Whether ``name`` ends as a file of rows does, and so is no split of a Hub data set."""
    return Path(name).suffix.lower() in _known_extensions(schema)


def uses_csv_reader(path: Path, schema: RowSchema, config: DataConfig) -> bool:
    """Whether the file is read as columns with a separator between them."""
    extension = path.suffix.lower()
    _, reader = _find_reader(extension)
    if extension in schema.readers_by_extension:
        return False
    if reader is not None and (reader.has_separator or not reader.rejects_json_lines):
        return reader.has_separator
    return config.separator is not None


def read_records(path: Path, schema: RowSchema, config: DataConfig, bad: BadRows) -> Iterator[Record]:
    """(line, asked fields) of each row. Raises DataError; rows that do not parse go to ``bad``."""
    extension, columns = path.suffix.lower(), schema.columns
    name, reader = _find_reader(extension)
    schema_reader = schema.readers_by_extension.get(extension)
    if reader is not None and not reader.text:
        yield from READERS.implementation(name, "read")(path, columns, config, bad)
        return
    line = checked_first_line(path, config.encoding, bad.source)
    if reader is not None and not reader.rejects_json_lines:
        read = schema_reader or READERS.implementation(name, "read")
        yield from read(path, columns, config, bad)
        return
    content = parse_json_object(line)
    single_text_column = len(columns.text + columns.label) == 1 and config.separator is None
    if content is not None and not (extension == _TEXT_EXTENSION and columns.text[0] not in content):
        raise DataError(
            "the file holds JSON Lines: its first line is a JSON object", where=bad.source,
            hint=f"Rename it to {path.stem}.jsonl",
        )  # fmt: skip
    if schema_reader is not None:
        yield from schema_reader(path, columns, config, bad)
    elif reader is not None and not reader.has_separator and single_text_column:
        yield from READERS.implementation(name, "read")(path, columns, config, bad)
    elif schema.default_reader is not None and reader is None and (not extension or config.separator):
        yield from schema.default_reader(path, columns, config, bad)
    elif reader is not None and reader.has_separator:
        yield from READERS.implementation(name, "read")(path, columns, config, bad)
    elif config.separator is not None:
        yield from read_csv_file(path, columns, config, bad)
    else:
        raise _unknown_format_error(extension, schema, bad.source, single_text_column)


def _find_reader(extension: str) -> tuple[str, ReaderSpec | None]:
    """Name and description of the reader that is registered for an ending; None: there is none."""
    readers = READERS.specs().items()
    return next(((name, description) for name, description in readers if extension in description.extensions), ("", None))


def _known_extensions(schema: RowSchema, include_unlabelled: bool = False) -> list[str]:
    """The endings of files whose rows can have labels; ``include_unlabelled``: those without them too."""
    readers = [description for description in READERS.specs().values() if description.supports_labels or include_unlabelled]
    extensions = [extension for each in readers for extension in each.extensions]
    return list(dict.fromkeys((*extensions, *schema.readers_by_extension)))


def read_json_lines_stream(
    stream: BinaryIO, columns: ColumnSpec, config: DataConfig, bad: BadRows
) -> Iterator[Record]:
    """JSON lines from an open binary stream."""
    yield from read_json_lines(
        open_text(stream, config.encoding, "\n"), columns, config.encoding, bad
    )


def _unknown_format_error(extension: str, schema: RowSchema, source: str, text_file_allowed: bool) -> DataError:
    """``text_file_allowed``: a .txt file would be read as one text per line."""
    known = _known_extensions(schema, text_file_allowed)
    closest_extension = closest_name(extension, known)
    closest = f"Did you mean {closest_extension}? " if closest_extension is not None else ""
    if extension == _TEXT_EXTENSION:
        problem = "a .txt file holds one text per line and no labels"
    else:
        problem = f"the file has the unknown ending {extension}" if extension else "the file has no ending"
    return DataError(
        problem, where=source,
        hint=f"{closest}Known endings are {format_list(known, 24)}. A table with another ending needs"
        " data.separator=<character> (tab for a tab)",
    )  # fmt: skip


def read_text_file(
    path: Path, columns: ColumnSpec, config: DataConfig, bad: BadRows
) -> Iterator[Record]:
    """One text per line."""
    if starts_json_document(read_first_line(path, config.encoding)):
        raise DataError(
            "the file holds a JSON document, not one text per line", where=bad.source,
            hint="Write each row on a line of its own: jq -c '.[]' rows.json > rows.jsonl",
        )  # fmt: skip
    with open_text(path, config.encoding, "\n") as file:
        yield from _text_records(iter_lines(file, bad, config.encoding), columns, bad)


def _text_records(lines: Iterator[str], columns: ColumnSpec, bad: BadRows) -> Iterator[Record]:
    """A row per line, a blank one too: answers stay aligned with the lines of the file."""
    for number, line in enumerate(lines, start=1):
        bad.count_row()
        yield number, [line.rstrip("\r\n"), *[None] * len(columns.optional)]
