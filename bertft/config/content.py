"""What the files are that a configuration names: data, base, tokenizer, teacher, by their content.

A sweep is repeated under the same folder after a file was changed: the paths are the same, the runs
are not. Size and time would not do, since both can stay as they were.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["content_digest"]

_SETTINGS = (
    "data.train", "data.validation", "data.test", "data.unlabelled", "data.hub", "model.path",
    "model.tokenizer", "method.distill.teacher",
)  # fmt: skip
# Of a run, what its results rest on; the checkpoint's files.json has their sha256.
_RUN = ("config.yaml", "manifest.json", "metrics.json", "checkpoints/best/files.json")
_ENDINGS = (
    ".safetensors", ".json", ".txt", ".model", ".csv", ".tsv", ".jsonl", ".parquet", ".arrow"
)  # fmt: skip


def content_digest(config: Mapping[str, Any]) -> str:
    """sha256 over the local files and folders that ``config`` names; empty if it names none."""
    found = {name: _digest(value) for name in _SETTINGS if (value := _value(config, name))}
    known = {name: digest for name, digest in found.items() if digest is not None}
    if not known:
        return ""
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def _value(config: Mapping[str, Any], name: str) -> str | None:
    value: Any = config
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value if isinstance(value, str) else None


def _digest(name: str) -> str | None:
    """None for what is no local file or folder, such as a Hub id: the name is all there is."""
    try:
        path = Path(name).expanduser()
        if path.is_file():
            return _of_file(path)
        if not path.is_dir():
            return None
        files = [path / each for each in _RUN if (path / each).is_file()]
        if not (path / "manifest.json").is_file():
            files = [each for each in path.rglob("*") if each.suffix.lower() in _ENDINGS]
        parts = {str(each.relative_to(path)): _of_file(each) for each in files if each.is_file()}
    except (OSError, RuntimeError, ValueError):  # the job itself reports what is wrong with it
        return None
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _of_file(path: Path) -> str:
    state = path.stat()
    return _read(str(path.absolute()), state.st_size, state.st_mtime_ns, state.st_ino)


@cache
def _read(path: str, size: int, time: int, inode: int) -> str:
    """The sha256 of a file, read once by a process as long as the file stays as it is."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
