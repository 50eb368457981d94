"""The name of a sweep's job folder: ``<method>-r<rank>-<data>-s<seed>-<hash of the config>``.

The hash is over everything that decides the result, the content of data, base and teacher included,
and nothing else, and never over the job's number: a sweep repeated or enlarged under the same
``hydra.sweep.dir`` finds its finished jobs.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from bertft.config.content import content_digest
from bertft.config.plain import to_plain_dict
from bertft.config.shown import DISPLAY_SETTINGS

__all__ = ["job_folder_name", "register_job_folder_resolver"]

_IRRELEVANT_SETTINGS = ("check", "hydra", "resume", *DISPLAY_SETTINGS)  # settings that change no result


def job_folder_name(config: Mapping[str, Any]) -> str:
    """Folder of the job with this resolved configuration."""
    settings = {key: value for key, value in config.items() if key not in _IRRELEVANT_SETTINGS}
    if isinstance(settings.get("trainer"), Mapping):
        trainer = settings["trainer"]
        settings["trainer"] = {key: trainer[key] for key in trainer if f"trainer.{key}" not in _IRRELEVANT_SETTINGS}
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
