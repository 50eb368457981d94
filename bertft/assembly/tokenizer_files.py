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

__all__ = ["digest", "kept", "made_by", "write"]

# Everything else in a checkpoint, or in a base that a run keeps.
_OTHERS = frozenset(
    ("config.json", "generation_config.json", "bertft.json", "files.json", "state.json")
)


def made_by(tokenizer: Any) -> dict[str, bytes]:
    """What ``tokenizer`` saves, by file name."""
    with TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        return _read(Path(folder))


def kept(folder: Path) -> dict[str, bytes]:
    """The tokenizer files in ``folder``: a checkpoint, or the base that a run keeps."""
    return {
        name: content
        for name, content in _read(folder, skip=_OTHERS).items()
        if not name.endswith((".safetensors", ".safetensors.index.json"))
    }


def digest(files: Mapping[str, bytes]) -> str:
    """sha256 over ``files``, by name and content."""
    total = hashlib.sha256()
    for name, content in sorted(files.items()):
        total.update(f"{name}\0{hashlib.sha256(content).hexdigest()}\n".encode())
    return total.hexdigest()


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write ``files`` into ``folder``. Raises OSError."""
    for name, content in files.items():
        (folder / name).write_bytes(content)


def _read(folder: Path, skip: frozenset[str] = frozenset()) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes()
        for path in sorted(folder.iterdir())
        if path.name not in skip and path.is_file()
    }
