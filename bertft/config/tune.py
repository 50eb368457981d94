"""``tune``: the search for settings by successive halving."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from bertft.config.setting import setting

__all__ = ["TuneSettings", "parse_time"]

_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|)", re.ASCII)
_UNIT_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}


@dataclass
class TuneSettings:
    """``tune``, and the settings of ``hydra/sweeper=halving``."""

    trials: int | None = setting(
        16,
        "Number of configurations to try, including the default if its settings are in the space."
        " Null: as many as tune.time allows.",
        at_least=2,
        at_most=10_000,
    )
    time: str | None = setting(
        None,
        "Wall-clock budget of the whole search, such as 90s, 45m or 2h; a number is in seconds."
        " Null: no limit.",
    )
    space: Any = setting(
        None,
        "Settings to search: {setting: distribution}, or tune.space.<setting>=<distribution>."
        " Distributions: choice(a,b), range(2,9,2), interval(0,0.3), tag(log,interval(1e-4,1e-2))."
        " Null: the learning rates and further settings of the method.",
    )
    seeds: Any = setting(
        [1, 2, 3],
        "Seeds with which the best configuration and the default are trained again and compared."
        " The trials use the setting seed.",
    )
    seed: int = setting(0, "Seed of the proposals of configurations.", at_least=0)


def parse_time(text: str) -> float:
    """The seconds of ``90``, ``90s``, ``1.5m`` or ``2h``. Raises ValueError for any other text."""
    match = _TIME.fullmatch(text.strip())
    if match is None or not (seconds := float(match[1]) * _UNIT_SECONDS[match[2]]) > 0:
        raise ValueError(f"{text!r} is not a time")
    return seconds
