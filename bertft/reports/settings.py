"""A run's settings beside those of a plain ``bertft train``: what was chosen, at a glance."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from omegaconf import DictConfig, OmegaConf

from bertft.config.commands import TrainConfig
from bertft.config.compose import default_settings
from bertft.config.schema import leaves, tree

__all__ = ["Setting", "settings_of_run"]

_ASIDE = ("resume", "check", "quiet", "report")  # how a run was watched, not what it is


@dataclass(frozen=True)
class Setting:
    """``value`` and ``default`` as YAML would say them; ``differs`` where they are not equal."""

    path: str
    value: str
    default: str

    @property
    def differs(self) -> bool:
        return self.value != self.default


def settings_of_run(config: TrainConfig) -> list[Setting]:
    """Every setting that ``config`` or the default has, in the order of the schema."""
    own, default = OmegaConf.structured(config), _default()
    found = []
    for leaf in leaves(tree("train")):
        if leaf.path in _ASIDE:
            continue
        values = [OmegaConf.select(each, leaf.path, default=_ABSENT) for each in (own, default)]
        if any(each is not _ABSENT for each in values):
            found.append(Setting(leaf.path, *map(_said, values)))
    return found


@cache
def _default() -> DictConfig:
    """Only read: composing it anew would cost each job of a sweep most of a second."""
    return OmegaConf.structured(default_settings("train"))


_ABSENT = object()


def _said(value: Any) -> str:
    if value is _ABSENT:
        return "–"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(OmegaConf.to_container(value)) if OmegaConf.is_config(value) else str(value)
