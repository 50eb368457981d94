"""A typed configuration as the text of ``config.yaml``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from omegaconf import OmegaConf

__all__ = ["to_yaml"]


def to_yaml(config: Any) -> str:
    """Every setting, resolved. How the process was started (``resume``) is no part of the run."""
    return OmegaConf.to_yaml(OmegaConf.structured(replace(config, resume=None)))
