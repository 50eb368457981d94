"""Configurations as plain dictionaries, as YAML and as a flat mapping."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from bertft.config.command_configs import TrainConfig

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = [
    "flatten_settings",
    "to_plain_dict",
    "to_yaml",
]


def flatten_settings(config: DataclassInstance) -> dict[str, str]:
    """Path → text of every setting of the dataclass ``config``; a null group is one setting."""
    return dict(_iter_flat(asdict(config), ""))


def _iter_flat(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for name, child in value.items():
            yield from _iter_flat(child, f"{path}.{name}" if path else name)
    else:
        yield path, _format_value(value)


def _format_value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_format_value, value))}]"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return str(value)


def to_yaml(config: TrainConfig) -> str:
    """Every setting as YAML. ``resume`` is null: it describes this process, not the run."""
    return OmegaConf.to_yaml(OmegaConf.structured(replace(config, resume=None)))


def to_plain_dict(config: DictConfig) -> dict[str, Any]:
    """The settings of the command with every ``${...}`` resolved, without Hydra's settings."""
    names = [str(key) for key in config if key != "hydra"]
    content = OmegaConf.to_container(OmegaConf.masked_copy(config, names), resolve=True)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}
