"""A run's settings beside those of a plain ``bertft train``: what was chosen, at a glance."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from omegaconf import DictConfig, OmegaConf

from bertft.config.commands import TrainConfig
from bertft.config.compose import build_default_settings
from bertft.config.schema import iter_leaves, settings_tree

__all__ = ["ReportedSetting", "list_settings"]

_HIDDEN = ("resume", "check", "quiet", "report")  # how a run was watched, not what it is


@dataclass(frozen=True)
class ReportedSetting:
    """``value`` and ``default`` as YAML would say them; ``differs`` where they are not equal."""

    path: str
    value: str
    default: str

    @property
    def differs(self) -> bool:
        return self.value != self.default


def list_settings(config: TrainConfig) -> list[ReportedSetting]:
    """Every setting that ``config`` or the default has, in the order of the schema."""
    run_config, default_config = OmegaConf.structured(config), _default_config()
    reported = []
    for leaf in iter_leaves(settings_tree("train")):
        if leaf.path in _HIDDEN:
            continue
        values = [OmegaConf.select(each, leaf.path, default=_ABSENT) for each in (run_config, default_config)]
        if any(each is not _ABSENT for each in values):
            reported.append(ReportedSetting(leaf.path, *map(_setting_text, values)))
    return reported


@cache
def _default_config() -> DictConfig:
    """Only read: composing it anew would cost each job of a sweep most of a second."""
    return OmegaConf.structured(build_default_settings("train"))


_ABSENT = object()


def _setting_text(value: Any) -> str:
    if value is _ABSENT:
        return "–"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(OmegaConf.to_container(value)) if OmegaConf.is_config(value) else str(value)
