"""The format of a file: data.format, or detected from its extension and its first characters."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from bertft.config.data import DataConfig
from bertft.config.data_files import (
    compression_of,
    file_extension,
    split_names,
    strip_compression,
)
from bertft.config.registry import READERS, ReaderSpec
from bertft.config.task_facts import join_words
from bertft.data.readers.separators import SEPARATORS, separator_of_header
from bertft.data.readers.text_files import checked_head, parse_json_object
from bertft.data.schema import ReadBlocksFunction, ReadFunction, RowSchema
from bertft.errors import DataError, UsageError
from bertft.utils.messages import closest_name, format_list

__all__ = ["FileFormat", "detect_format", "names_local_files"]

_TABLE, _TAB_TABLE = "csv", "tsv"  # csv: for any extension if data.separator is set
_TEXT, _DOCUMENT = "text", "document"  # one text per line, and per file
_TEXT_EXTENSION = ".txt"


@dataclass(frozen=True)
class FileFormat:
    """The format of a file.

    Attributes:
        name: a value of data.format.
        read: yields the records of a file.
        read_blocks: yields records or blocks of them; None if the format has no blocks.
        package: the package that registers the format, with its version; "" for bertft.
    """

    name: str
    spec: ReaderSpec
    read: ReadFunction
    read_blocks: ReadBlocksFunction | None = None
    package: str = ""

    def schema(self, path: Path) -> pa.Schema | None:
        """The names and types of the columns of a file.

        None for a format without types, and for a file that cannot be read: reading its rows
        reports the problem.
        """
        if self.spec.schema is None:
            return None
        try:
            schema: pa.Schema = READERS.implementation(self.name, "schema")(path)
        except (pa.ArrowException, OSError):
            return None
        return schema


def detect_format(path: Path, schema: RowSchema, config: DataConfig, source: str) -> FileFormat:
    """The format of ``path``; ``source`` is the file in messages.

    Raises:
        DataError: the format is unknown, or the content does not match the extension.
        UsageError: data.format does not match the task.
    """
    extension = file_extension(path)
    names = _candidates(extension, schema, config)
    specs = READERS.specs()
    head = ""
    if not names or any(specs[name].text for name in names):
        head = checked_head(path, config.encoding, source)
    if names and compression_of(path) is not None and not specs[names[0]].text:
        raise DataError(
            f"{names[0]} files are not read in compressed form",
            where=source,
            hint="Decompress the file; the format itself is compressed",
        )
    table = _table_in_text_file(extension, head, schema, config)
    if table is not None:
        names = [table]
    matching = [name for name in names if config.format is not None or _matches(name, head)]
    if not matching and config.separator is not None:
        matching = [_TABLE]
    name = matching[0] if matching else None
    if config.format is None and (name is None or specs[name].rejects_json_lines):
        _reject_json_lines(head, path, schema, source)
    if name is None:
        raise _unknown_format_error(extension, schema, config, source)
    package = READERS.package(name)
    read = schema.readers.get(name)
    has_blocks = read is None and specs[name].read_blocks is not None
    return FileFormat(
        name,
        specs[name],
        read or READERS.implementation(name, "read"),
        READERS.implementation(name, "read_blocks") if has_blocks else None,
        "" if package is None else str(package),
    )


def names_local_files(value: Any, config: DataConfig, schema: RowSchema) -> bool:
    """Whether data.train and so on names files, and not a split of a Hub data set."""
    names = split_names(value)
    known_extensions = _known_extensions(schema, config)
    return len(names) > 1 or any(file_extension(name) in known_extensions for name in names)


def _candidates(extension: str, schema: RowSchema, config: DataConfig) -> Sequence[str]:
    """The formats that a file with this extension can have; the first that matches is used."""
    specs = READERS.specs()
    if config.format is not None:
        _check_configured_format(config.format, specs[config.format], schema, config)
        return [config.format]
    if extension in schema.formats_by_extension:
        return [schema.formats_by_extension[extension]]
    names = [
        name
        for name, spec in specs.items()
        if extension in spec.extensions
        and config.task in (spec.tasks or (config.task,))
        and (spec.supports_labels or _has_only_texts(schema, config))
    ]
    # A format of a package may be a special case of one of bertft.
    names.sort(
        key=lambda name: (
            not specs[name].tasks,
            specs[name].matches is None,
            READERS.package(name) is None,
        )
    )
    text_format = _format_of_derived_labels(schema, config)
    if text_format is not None and not _has_other_format(names):
        return [text_format]
    if names:
        return names
    is_known = any(extension in spec.extensions for spec in specs.values())
    if not is_known and schema.default_format and (not extension or config.separator):
        return [schema.default_format]
    return [_TABLE] if config.separator is not None else []


def _has_other_format(names: Sequence[str]) -> bool:
    """Whether files with the extension always have a format of ``names`` that is not plain text."""
    return any(name != _TEXT and READERS[name].matches is None for name in names)


def _format_of_derived_labels(schema: RowSchema, config: DataConfig) -> str | None:
    """The format of texts whose label is the name of their file or folder; None for others.

    A file named after its class has many texts. A folder named after it has one text per file.
    """
    if not isinstance(config.label, str) or not _has_only_texts(schema, config):
        return None
    return {"@file": _TEXT, "@folder": _DOCUMENT}.get(config.label)


def _table_in_text_file(
    extension: str, head: str, schema: RowSchema, config: DataConfig
) -> str | None:
    """The format of a .txt file whose first line has the names of the columns; None for others.

    A line of text can have commas, so that rows without labels need tabs.
    """
    if extension != _TEXT_EXTENSION or config.format is not None or config.separator is not None:
        return None
    if next(iter(_candidates(".tsv", schema, config)), None) != _TAB_TABLE:
        return None  # another format of the task
    columns = schema.columns.without_derived()
    if not columns.has_names:
        return None
    separators = SEPARATORS if columns.label else ("\t",)
    first_line = next(io.StringIO(head, newline=""), "")
    separator = separator_of_header(first_line, columns, config, separators)
    return None if separator is None else _TAB_TABLE if separator == "\t" else _TABLE


def _check_configured_format(
    name: str, spec: ReaderSpec, schema: RowSchema, config: DataConfig
) -> None:
    if spec.tasks and config.task not in spec.tasks:
        raise UsageError(
            f"{name} is a format of the task {join_words(spec.tasks, 'or')}, but the task is"
            f" {config.task}",
            where="data.format",
            hint="Set another format, or leave it out: it is detected",
        )
    if not spec.supports_labels and not _has_only_texts(schema, config):
        columns = schema.columns.without_derived()
        if config.separator is not None:
            problem = f"the format {name} has no columns, which data.separator needs"
        elif len(columns.text) > 1:
            problem = (
                f"the format {name} has one text per row, but the rows of the task {config.task}"
                f" have {len(columns.text)}"
            )
        else:
            problem = f"the format {name} has no labels, which the task {config.task} needs"
        fitting = [
            name
            for name, other in READERS.specs().items()
            if other.supports_labels and config.task in (other.tasks or (config.task,))
        ]
        raise UsageError(
            problem,
            where="data.format",
            hint=f"Use a format with columns: {join_words(fitting, 'or')}",
        )


def _has_only_texts(schema: RowSchema, config: DataConfig) -> bool:
    """Whether a file has one text per line, and no other column."""
    columns = schema.columns.without_derived()
    return len(columns.text + columns.label) == 1 and config.separator is None


def _matches(name: str, head: str) -> bool:
    """Whether a text that begins with ``head`` has the format ``name``."""
    if READERS[name].matches is None:
        return True
    return bool(READERS.implementation(name, "matches")(head))


def _reject_json_lines(head: str, path: Path, schema: RowSchema, source: str) -> None:
    """Raise DataError for JSON Lines in a file of another format.

    Without the key of the texts, a line of a .txt file may be a text that looks like JSON.
    """
    content = parse_json_object(next(io.StringIO(head, newline=""), ""))
    is_text = file_extension(path) == _TEXT_EXTENSION
    if content is not None and not (is_text and schema.columns.text[0] not in content):
        raise DataError(
            "the file contains JSON Lines: its first line is a JSON object",
            where=source,
            hint=f"Rename it to {strip_compression(path).stem}.jsonl, or set data.format=jsonl",
        )


def _known_extensions(
    schema: RowSchema, config: DataConfig, include_unlabelled: bool = False
) -> list[str]:
    """Extensions of formats with labels; ``include_unlabelled``: also of those without."""
    extensions = [
        extension
        for spec in READERS.specs().values()
        if config.task in (spec.tasks or (config.task,))
        and (spec.supports_labels or include_unlabelled)
        for extension in spec.extensions
    ]
    known = dict.fromkeys((*extensions, *schema.formats_by_extension))
    if not include_unlabelled and _TEXT_EXTENSION not in schema.formats_by_extension:
        known.pop(_TEXT_EXTENSION, None)  # only the format of fastText has labels
    return list(known)


def _unknown_format_error(
    extension: str, schema: RowSchema, config: DataConfig, source: str
) -> DataError:
    known = _known_extensions(schema, config, _has_only_texts(schema, config))
    closest_extension = closest_name(extension, known)
    closest = f"Did you mean {closest_extension}? " if closest_extension is not None else ""
    if extension == _TEXT_EXTENSION:
        problem = "a .txt file has one text per line and no labels"
    else:
        problem = (
            f"unknown file extension {extension}" if extension else "the file has no extension"
        )
    return DataError(
        problem,
        where=source,
        hint=f"{closest}Known extensions: {format_list(known, 24)}. For another extension, set"
        " data.format=<format>; for a table, data.separator=<character> or data.separator=tab",
    )
