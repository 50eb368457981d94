"""Read samples of the files of a split, with the names and lines of the original files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from bertft.config.data import DataConfig
from bertft.config.data_files import format_names, resolve_files
from bertft.data.file_samples import FileSample, sample_file
from bertft.data.file_sets import FileBadRows, FileSet, open_paths, read_file
from bertft.data.rows import BadRows, RowError, encode_line
from bertft.data.schema import ColumnSpec, Record, RowSchema
from bertft.errors import DataError
from bertft.utils.messages import expand_home

__all__ = ["FileSampler", "SampledFileSet"]

_MAX_FILES = 500  # of more files, so many are sampled
_MIN_FILE_BYTES = 1 << 16  # of each of several files


class FileSampler:
    """Samples of the files that a setting selects; ``open`` has the signature of ``open_files``.

    Attributes:
        paths: all files.
        samples: those of the sampled files, which are evenly spaced among ``paths``.
        source: the name of the files in messages.
    """

    def __init__(
        self,
        value: Any,
        setting: str,
        config: DataConfig,
        folder: Path,
        max_bytes: int,
        source: str | None = None,
        complete_bytes: int = 0,
    ) -> None:
        """Sample the files.

        Args:
            value: the value of ``setting``.
            config: settings that decide how the files are sampled (see ``sample_file``).
            folder: an existing folder for the samples.
            max_bytes: the size of all samples together.
            source: the name of a single file in messages; None: ``value``.
            complete_bytes: the size up to which a single file is read completely.

        Raises:
            DataError: there is no such file, or it cannot be read.
        """
        self.paths = resolve_files(value, setting)
        self.source = source or format_names(value)
        count = min(len(self.paths), _MAX_FILES)
        self._sampled_paths = [
            self.paths[len(self.paths) * number // count] for number in range(count)
        ]
        is_name = isinstance(value, str) and [expand_home(value)] == self.paths
        self._names = [source or str(value)] if is_name else list(map(str, self._sampled_paths))
        per_file = max(_MIN_FILE_BYTES, max_bytes // count)
        self.samples: list[FileSample] = []
        for number, path in enumerate(self._sampled_paths):
            file_folder = folder / str(number)
            file_folder.mkdir()
            sizes = (max_bytes, complete_bytes) if count == 1 else (per_file, 0)
            self.samples.append(sample_file(path, file_folder, sizes[0], config, sizes[1]))

    @property
    def is_complete(self) -> bool:
        """Whether all rows of all files are in the samples."""
        is_sampled = len(self._sampled_paths) < len(self.paths)
        return not is_sampled and all(sample.is_complete for sample in self.samples)

    @property
    def total_size(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in self.paths)

    def open(self, value: Any, setting: str, schema: RowSchema, config: DataConfig) -> FileSet:
        """The samples as a set of files. Raises as ``open_files``."""
        contents = [sample.path for sample in self.samples]
        files = open_paths(self._sampled_paths, self._names, contents, setting, schema, config)
        return SampledFileSet(self.source, files, tuple(self.samples))


@dataclass(frozen=True)
class SampledFileSet(FileSet):
    """Files that are read in the place of others."""

    samples: tuple[FileSample, ...] = ()
    is_cacheable: ClassVar[bool] = False

    def read(self, columns: ColumnSpec, config: DataConfig, bad: BadRows) -> Iterator[Record]:
        """As ``FileSet.read``, with the lines of the original files."""
        for index, (file, sample) in enumerate(zip(self.files, self.samples, strict=True)):
            file_bad = _SampledBadRows(
                file.name, file.format.spec.unit, parent=bad, file_index=index, sample=sample
            )
            used = 0
            try:
                records = read_file(file, columns, config, file_bad)
                for line, fields in islice(records, sample.max_rows):
                    used += 1
                    yield encode_line(sample.line(line), index), fields
            except DataError as error:
                error.where = _original_location(error.where, file.name, sample)
                raise
            file_bad.finish(used)
            if len(self.files) == 1:
                bad.notes[:] = file_bad.notes


def _original_location(where: str | None, name: str, sample: FileSample) -> str | None:
    """``where`` with the line of the original file in place of that of the sample."""
    match = re.fullmatch(rf"({re.escape(name)}):(\d+)", where or "")
    return where if match is None else f"{match[1]}:{sample.line(int(match[2]))}"


@dataclass
class _SampledBadRows(FileBadRows):
    """The accounting of a sample, which is added to that of the split with original lines."""

    sample: FileSample = field(default_factory=lambda: FileSample(Path(), 0, 0))

    def add(self, line: int, error: RowError) -> None:
        super().add(self.sample.line(line), error)
