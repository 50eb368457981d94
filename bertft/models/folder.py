"""A model's folder, looked at before a library opens its files by their paths."""

from __future__ import annotations

import json
import os
from pathlib import Path

from bertft.config.regular_file import file_kind, read_regular_text, unreadable
from bertft.errors import DataError

__all__ = ["check_model_folder"]

_INDEX_FILE = "model.safetensors.index.json"


def check_model_folder(folder: Path) -> None:
    """DataError for a file that would block, or that is not in ``folder``.

    Links must lead to regular files in the folder; the Hub's cache, where each file is a link to
    ``../../blobs``, is the exception. An index of weights in several files may name none outside.
    """
    real_folder = folder.resolve()
    blobs = real_folder.parent.parent / "blobs"
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise unreadable(error, folder) from error
    for entry in entries:
        if entry.name.startswith(".") or entry.is_dir(follow_symlinks=False):
            continue
        path = Path(entry.path)
        try:
            mode, target = entry.stat().st_mode, path.resolve()
        except OSError as error:
            raise unreadable(error, path) from error
        if entry.is_symlink() and real_folder not in target.parents and target.parent != blobs:
            raise DataError(
                "is a link that leads out of its folder", where=str(path),
                hint="Replace it with the file, for example with cp -L",
            )  # fmt: skip
        special_kind = file_kind(mode)
        if special_kind is not None and not entry.is_dir():
            raise DataError(f"is {special_kind}, not a regular file", where=str(path), hint="Remove it")
    if (folder / _INDEX_FILE).is_file():
        _check_weight_index(folder / _INDEX_FILE)


def _check_weight_index(file: Path) -> None:
    try:
        files = json.loads(read_regular_text(file)).get("weight_map").values()
        names = {str(entry) for entry in files}
    except (ValueError, AttributeError, RecursionError):
        raise DataError(
            "is no index of weights", where=str(file), hint="Was it edited or cut short?"
        ) from None
    for name in sorted(names):
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise DataError(f"{name!r} is no file of weights in the folder", where=str(file))
