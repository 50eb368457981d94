"""A composed configuration as plain dictionaries."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf

__all__ = ["to_plain_dict"]


def to_plain_dict(config: DictConfig) -> dict[str, Any]:
    """The command's own settings with every ``${...}`` resolved; Hydra's are left out."""
    names = [str(key) for key in config if key != "hydra"]
    content = OmegaConf.to_container(OmegaConf.masked_copy(config, names), resolve=True)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}
