"""The files of a run's tokenizer: made once, then copied byte for byte.

transformers does not always write what it read (the class of a tokenizer depends on the
config.json next to it), so a tokenizer that was loaded from a checkpoint is not saved again: the
files of that checkpoint go into the next one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bertft.errors import DataError, UsageError

__all__ = [
    "read_tokenizer_files",
    "serialize_tokenizer",
    "tokenizer_digest",
    "write_tokenizer_files",
]

# Everything else in a checkpoint, or in a base that a run keeps.
_OTHER_FILES = frozenset(
    ("config.json", "generation_config.json", "bertft.json", "files.json", "state.json")
)


def serialize_tokenizer(tokenizer: Any) -> dict[str, bytes]:
    """What ``tokenizer`` saves, by file name. UsageError if transformers cannot save it."""
    with TemporaryDirectory() as folder:
        try:
            tokenizer.save_pretrained(folder)
        except OSError:
            raise
        except Exception as error:  # an entry of tokenizer_config.json that saving refuses
            why = " ".join(str(error).split())[:200]
            raise UsageError(
                f"the tokenizer cannot be saved ({type(error).__name__}: {why})",
                where=str(tokenizer.name_or_path),
                hint="Correct its tokenizer_config.json",
            ) from error
        return _read_files(Path(folder))


def read_tokenizer_files(folder: Path) -> dict[str, bytes]:
    """The tokenizer files in ``folder``: a checkpoint, or the base that a run keeps.

    Hidden files are left out: no listing proves them, and what they hold is none of ours.
    DataError for a link, whose target may be any file of the machine.
    """
    return {
        name: content
        for name, content in _read_files(folder, skip=_OTHER_FILES).items()
        if not name.endswith((".safetensors", ".safetensors.index.json"))
    }


def tokenizer_digest(files: Mapping[str, bytes]) -> str:
    """sha256 over ``files``, by name and content."""
    total = hashlib.sha256()
    for name, content in sorted(files.items()):
        total.update(f"{name}\0{hashlib.sha256(content).hexdigest()}\n".encode())
    return total.hexdigest()


def write_tokenizer_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write ``files`` into ``folder``. Raises OSError."""
    for name, content in files.items():
        (folder / name).write_bytes(content)


def _read_files(folder: Path, skip: frozenset[str] = frozenset()) -> dict[str, bytes]:
    files = {}
    for path in sorted(folder.iterdir()):
        if path.name in skip or path.name.startswith(".") or not path.is_file():
            continue
        if path.is_symlink():
            raise DataError("is a link", where=str(path), hint="Replace it with the file")
        files[path.name] = path.read_bytes()
    return files
