"""The names of data files: one file, or several that are read as one split.

    reviews.csv                          a file
    [a.csv,b.csv]                        a list
    parts/*.csv, parts/**/*.csv          a pattern; ** is any number of folders
    parts                                a folder: the files in it and in its folders, or the files
                                         of a data set that datasets' save_to_disk wrote

Files of a pattern or folder are in the order of their names. Files whose name begins with ``.``,
and in folders also ``_`` as of _SUCCESS, are hidden: they are not read.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bertft.errors import DataError
from bertft.utils.messages import expand_home, format_list, missing_file_problem
from bertft.utils.safe_files import read_json_object

__all__ = [
    "STANDARD_INPUT",
    "compression_of",
    "file_extension",
    "format_names",
    "inherited_format",
    "is_several_files",
    "resolve_files",
    "split_names",
    "strip_compression",
]

STANDARD_INPUT = "-"
_COMPRESSIONS = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "Zstandard"}
_MAX_FILES = 1_000_000
# Files that datasets' save_to_disk writes.
_DATASET_STATE, _DATASET_INFO, _DATASET_DICT = (
    "state.json",
    "dataset_info.json",
    "dataset_dict.json",
)
_SAVE_HINT = "Load the data set with datasets.load_from_disk, and save it again"


def compression_of(path: str | Path) -> str | None:
    """The name of the compression of a file, by its extension; None for any other file."""
    return _COMPRESSIONS.get(Path(path).suffix.lower())


def strip_compression(path: str | Path) -> Path:
    """``path`` without the extension of a compression."""
    path = Path(path)
    return path if compression_of(path) is None else path.with_suffix("")


def file_extension(path: str | Path) -> str:
    """The extension that decides the format of a file, in lower case: .csv of a.csv.gz."""
    return strip_compression(path).suffix.lower()


def split_names(value: Any) -> list[str]:
    """The names in the value of a setting such as data.train: one text or a list of texts.

    A text such as ``[a.csv,b.csv]`` is a list, unless it is the name of a file.
    """
    if not isinstance(value, str):
        return list(value) if isinstance(value, (list, tuple)) else [value]
    is_list = value.startswith("[") and value.endswith("]") and "," in value
    if not is_list or os.path.exists(value):
        return [value]
    return [name.strip() for name in value[1:-1].split(",") if name.strip()]


def format_names(value: Any) -> str:
    """The value of a setting such as data.train, in messages."""
    return format_list(split_names(value), 3, 200)


def inherited_format(recorded: str | None, train: Any, files: Any) -> str | None:
    """data.format for ``files`` that replace the files of a run.

    It is the ``recorded`` format if ``train``, the training files, have the same extension.
    Otherwise the format of the files is detected.
    """
    if recorded is None or not train:
        return None
    extensions = {file_extension(name) for name in (*split_names(train), *split_names(files))}
    return recorded if len(extensions) == 1 else None


def is_several_files(value: Any) -> bool:
    """Whether ``value`` is a list of files, a pattern or a folder, and not the name of one file."""
    names = split_names(value)
    if len(names) > 1:
        return True
    return all(
        isinstance(name, str) and (_is_pattern(name) or os.path.isdir(name)) for name in names
    )


def _is_pattern(name: str) -> bool:
    return glob.has_magic(name) and not os.path.exists(name)


def resolve_files(value: Any, setting: str) -> list[Path]:
    """The files of ``value``, a name, pattern or folder, or a list of them, in order.

    Raises DataError if there is no such file, or a file is listed twice.
    """
    names = split_names(value)
    if not names or not all(isinstance(name, str) and name for name in names):
        raise DataError(
            f"{value!r} is neither a file nor a list of files",
            where=setting,
            hint=f"Set {setting}=<file> or {setting}=[<file>,<file>]",
        )
    files = [file for name in names for file in _resolve_name(name, setting)]
    if len(names) > 1:
        _check_duplicates(files, setting)
    return files


def _resolve_name(name: str, setting: str) -> Sequence[Path]:
    path = expand_home(name, setting)
    if path.is_dir():
        files = _files_of_dataset(path, f"{setting}={name}") or _files_below(
            [path], f"{setting}={name}"
        )
        if not files:
            raise DataError(
                "the folder has no data files (names that begin with . or _ are ignored)",
                where=f"{setting}={name}",
                hint="Set a folder with data files",
            )
        return files
    if _is_pattern(str(path)):
        matches = {Path(match) for match in glob.iglob(str(path), recursive=True)}
        files = sorted(match for match in matches if match.is_file())
        files = files or _files_below(sorted(matches), f"{setting}={name}")
        if not files:
            raise DataError(
                "no file matches the pattern",
                where=f"{setting}={name}",
                hint=f"Relative patterns start at the current directory, {Path.cwd()}",
            )
        return files
    problem = missing_file_problem(name, setting)
    if problem is not None:
        raise DataError(problem.what, where=problem.where, hint=problem.hint)
    return [path]


def _files_of_dataset(folder: Path, where: str) -> list[Path]:
    """The files of a folder that ``Dataset.save_to_disk`` wrote; empty for any other folder.

    Raises DataError for the folder of a ``DatasetDict``, and for a damaged one.
    """
    if (folder / _DATASET_DICT).is_file():
        splits = sorted(path.parent.name for path in folder.glob(f"*/{_DATASET_STATE}"))
        raise DataError(
            f"is a DatasetDict with the splits {format_list(splits)}",
            where=where,
            hint=f"Set the folder of a split: {where}/{next(iter(splits), 'train')}",
        )
    if not ((folder / _DATASET_STATE).is_file() and (folder / _DATASET_INFO).is_file()):
        return []
    state = read_json_object(folder / _DATASET_STATE)
    entries: Any = state.get("_data_files")
    if not isinstance(entries, list):
        entries = []
    names: list[Any] = [entry.get("filename") for entry in entries if isinstance(entry, dict)]
    if not names or not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise DataError(
            "has no valid list _data_files", where=str(folder / _DATASET_STATE), hint=_SAVE_HINT
        )
    if state.get("_indices_data_files"):
        raise DataError(
            "has a selection of rows, which earlier versions of datasets wrote",
            where=where,
            hint=_SAVE_HINT,
        )
    files = [folder / name for name in names]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise DataError(
            f"lacks {format_list(missing, 3)}", where=where, hint="Copy the whole folder again"
        )
    return files


def _files_below(folders: Sequence[Path], where: str) -> list[Path]:
    """The files in ``folders`` that are not hidden, sorted within each folder."""
    files: list[Path] = []
    for folder in folders:
        files += sorted(_iter_files(folder))
        if len(files) > _MAX_FILES:
            raise DataError(
                f"has more than {_MAX_FILES:,} files", where=where, hint="Choose another folder"
            )
    return files


def _iter_files(folder: Path) -> Iterator[Path]:
    count = 0
    for parent, folder_names, names in os.walk(folder):
        folder_names[:] = [name for name in folder_names if not _is_hidden(name)]
        for name in names:
            path = Path(parent, name)
            if not _is_hidden(name) and path.is_file():
                yield path
                count += 1
        if count > _MAX_FILES:
            return


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "_"))


def _check_duplicates(files: Sequence[Path], setting: str) -> None:
    seen: set[str] = set()
    for file in files:
        path = os.path.realpath(file)
        if path in seen:
            raise DataError(f"{file} is listed twice", where=setting, hint="List each file once")
        seen.add(path)
