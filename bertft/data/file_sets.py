"""One file, or several files that are read one after another as one split.

Each file is read by the reader of its own format, and each table has its own header. The label of
a row can be derived from the name of its file:

    data.label=@file      pos of pos.txt; also pos of rt.pos, if rt.neg is in the same split
    data.label=@folder    pos of pos/0_9.txt
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, TypeAlias, cast

from bertft.config.data import DataConfig
from bertft.config.data_files import (
    file_extension,
    format_names,
    resolve_files,
    strip_compression,
)
from bertft.config.registry import READERS
from bertft.data.column_blocks import ColumnBlock
from bertft.data.formats import FileFormat, detect_format
from bertft.data.rows import BadRows, RowError, encode_line
from bertft.data.schema import ColumnNotFound, ColumnSpec, Record, RowSchema
from bertft.errors import DataError
from bertft.utils.messages import expand_home

__all__ = [
    "FileBadRows",
    "FileSet",
    "SourceFile",
    "column_names",
    "open_files",
    "open_paths",
    "read_file",
]


@dataclass(frozen=True)
class SourceFile:
    """A file of a split.

    Attributes:
        path: the file that is read.
        name: the path in messages.
        derived: the values of the columns that are derived from the path.
    """

    path: Path
    name: str
    format: FileFormat
    derived: Mapping[str, str]


ReadItems: TypeAlias = Callable[
    [SourceFile, ColumnSpec, DataConfig, BadRows], Iterator[Record | ColumnBlock]
]


@dataclass(frozen=True)
class FileSet:
    """The files of a split, at least one; ``source`` is the setting's value in messages."""

    source: str
    files: tuple[SourceFile, ...]

    # Whether the rows may be stored in the cache of parsed rows.
    is_cacheable: ClassVar[bool] = True

    @property
    def first(self) -> SourceFile:
        return self.files[0]

    @property
    def unit(self) -> str:
        """What the numbers of rows count, if there is one file; empty: lines."""
        return self.first.format.spec.unit

    @property
    def locations(self) -> tuple[tuple[str, str], ...]:
        """``files`` of ``BadRows``."""
        if len(self.files) == 1:
            return ()
        return tuple((file.name, file.format.spec.unit) for file in self.files)

    @property
    def absolute_paths(self) -> tuple[str, ...]:
        return tuple(str(file.path.resolve()) for file in self.files)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.path.stat().st_size for file in self.files)

    def read(self, columns: ColumnSpec, config: DataConfig, bad: BadRows) -> Iterator[Record]:
        """(number, requested fields) of each row of all files.

        Rows that cannot be parsed are added to ``bad``, which has the ``locations`` of the files.
        """
        # read_file yields no blocks.
        return cast("Iterator[Record]", self._read_files(read_file, columns, config, bad))

    def read_blocks(
        self, columns: ColumnSpec, config: DataConfig, bad: BadRows
    ) -> Iterator[Record | ColumnBlock]:
        """As ``read``, with blocks of rows where the format has them."""
        return self._read_files(_read_file_blocks, columns, config, bad)

    def _read_files(
        self, read: ReadItems, columns: ColumnSpec, config: DataConfig, bad: BadRows
    ) -> Iterator[Record | ColumnBlock]:
        if len(self.files) == 1:
            yield from read(self.first, columns, config, bad)
            return
        for index, file in enumerate(self.files):
            file_bad = FileBadRows(file.name, file.format.spec.unit, parent=bad, file_index=index)
            used = 0
            for item in read(file, columns, config, file_bad):
                if isinstance(item, ColumnBlock):
                    used += item.size
                    yield replace(item, first_line=encode_line(item.first_line, index))
                else:
                    used += 1
                    yield encode_line(item[0], index), item[1]
            file_bad.finish(used)


def _read_file_blocks(
    file: SourceFile, columns: ColumnSpec, config: DataConfig, bad: BadRows
) -> Iterator[Record | ColumnBlock]:
    """As ``read_file``, with blocks where the format has them."""
    if file.format.read_blocks is None or columns.without_derived() != columns:
        yield from read_file(file, columns, config, bad)
        return
    try:
        yield from file.format.read_blocks(file.path, columns, config, bad)
    except ColumnNotFound as error:
        error.path = file.path
        raise


def open_files(value: Any, setting: str, schema: RowSchema, config: DataConfig) -> FileSet:
    """The files that ``value`` of ``setting`` selects.

    Raises:
        DataError: a file does not exist, or its format is unknown.
        UsageError: data.format does not match the task.
    """
    paths = resolve_files(value, setting)
    is_name = isinstance(value, str) and [expand_home(value)] == paths
    names = [value] if is_name else [str(path) for path in paths]
    return FileSet(format_names(value), open_paths(paths, names, paths, setting, schema, config))


def open_paths(
    paths: Sequence[Path],
    names: Sequence[str],
    contents: Sequence[Path],
    setting: str,
    schema: RowSchema,
    config: DataConfig,
) -> tuple[SourceFile, ...]:
    """The files at ``paths`` with their formats.

    Args:
        names: the files in messages.
        contents: the files that are read: ``paths``, or samples of them.
        setting: the setting that selects the files.

    Raises:
        DataError, UsageError: as ``open_files``.
    """
    labels = _labels_from_names(paths)
    files = []
    for path, name, content, label in zip(paths, names, contents, labels, strict=True):
        try:
            file_format = detect_format(content, schema, config, name)
        except DataError as error:
            others = [other.suffix for other in paths if other.suffix not in ("", path.suffix)]
            if others:
                pattern = f"{path.parent}/*{others[0]}"
                error.hint = f"{error.hint}. To leave this file out, set {setting}='{pattern}'"
            raise
        derived = {"@file": label, "@folder": path.absolute().parent.name}
        files.append(SourceFile(content, name, file_format, derived))
    return tuple(files)


def read_file(
    file: SourceFile, columns: ColumnSpec, config: DataConfig, bad: BadRows
) -> Iterator[Record]:
    """The records of one file, with the columns that are derived from its name."""
    file_columns = columns.without_derived()
    try:
        records = file.format.read(file.path, file_columns, config, bad)
        if file_columns == columns:
            yield from records
            return
        names = columns.all_columns
        derived = [
            (at, file.derived[str(name)]) for at, name in enumerate(names) if name in file.derived
        ]
        for line, fields in records:
            for position, value in derived:
                fields.insert(position, value)
            yield line, fields
    except ColumnNotFound as error:
        error.path = file.path
        raise


@dataclass
class FileBadRows(BadRows):
    """The accounting of one of several files, which is added to that of the split, ``parent``."""

    parent: BadRows = field(default_factory=lambda: BadRows(""))
    file_index: int = 0

    def add(self, line: int, error: RowError) -> None:
        super().add(line, error)
        self.parent.add(encode_line(line, self.file_index), error)

    def finish(self, used: int) -> None:
        """Add the rows and lines of the file to the parent; ``used``: rows that were yielded."""
        self.parent.count_row(self.read or used + len(self) + self.excluded.total())
        self.parent.blank_lines += self.blank_lines
        self.parent.dropped.update(self.dropped)
        self.parent.excluded.update(self.excluded)
        self.parent.other_lines.update(self.other_lines)
        self.parent.notes += [f"{self.source}: {note}" for note in self.notes]


def _labels_from_names(paths: Sequence[Path]) -> list[str]:
    """The label that the name of each file contains.

    It is the only part between dots in which the names differ: pos of rt.pos and rt.neg. Otherwise
    it is the name without the extension of a known format, or an unknown extension alone.
    """
    names = [strip_compression(path).name for path in paths]
    split_names = [name.split(".") for name in names]
    if len({len(pieces) for pieces in split_names}) == 1:
        differing = [
            position
            for position, pieces in enumerate(zip(*split_names, strict=True))
            if len(set(pieces)) > 1
        ]
        if len(differing) == 1:
            return [pieces[differing[0]] for pieces in split_names]
    return [_label_from_name(name) for name in names]


def _label_from_name(name: str) -> str:
    extension = file_extension(name)
    known = {known for spec in READERS.specs().values() for known in spec.extensions}
    if extension in known:
        return name[: -len(extension)]
    return Path(name).suffix.removeprefix(".") or name


class _ColumnNames(Exception):
    """Carries the names of the columns out of a reader; None: the columns have no names."""

    def __init__(self, names: Sequence[str] | None) -> None:
        super().__init__(names)
        self.names = names


class _NameProbe(ColumnSpec):
    """Ends a reader when it resolves its columns, with the names of those in the file."""

    def resolve_alternatives(self, names: Sequence[str] | None) -> ColumnSpec:
        raise _ColumnNames(names)


def column_names(file: SourceFile, schema: RowSchema, config: DataConfig) -> Sequence[str] | None:
    """The names of the columns of a file; None if they have none."""
    columns = schema.columns
    probe = _NameProbe(columns.text, columns.label, columns.optional, columns.text_alternatives)
    try:
        for _ in file.format.read(file.path, probe, config, BadRows(file.name)):
            break
    except _ColumnNames as columns_of_file:
        return columns_of_file.names
    return None
