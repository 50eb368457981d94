"""Rules of ``tune``: its own settings, and the settings of train that a search does not support."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bertft.config.schema import GetSetting
from bertft.config.tune import parse_time
from bertft.utils.messages import Problem

__all__ = ["TUNE_RULES", "tune_problems"]


def tune_problems(
    group: str, trials: int | None, time: str | None, seeds: Any
) -> Iterator[Problem]:
    """Problems of the settings of a search; ``group`` is "tune" or "hydra.sweeper"."""
    if trials is None and time is None:
        yield Problem(
            f"{group}.trials", f"null requires {group}.time", f"Set {group}.time, as in 30m"
        )
    if time is not None:
        try:
            parse_time(time)
        except ValueError as error:
            yield Problem(f"{group}.time", str(error), "Write 90s, 45m or 2h")
    if (
        not isinstance(seeds, list)
        or not seeds
        or not all(type(seed) is int and seed >= 0 for seed in seeds)
    ):
        yield Problem(f"{group}.seeds", f"{seeds!r} is not a list of seeds", "Write [1,2,3]")
    elif len(set(seeds)) < len(seeds):
        yield Problem(f"{group}.seeds", "a seed is listed twice", "List each seed once")


def _check_tune(get: GetSetting) -> Iterator[Problem]:
    yield from tune_problems("tune", get("tune.trials"), get("tune.time"), get("tune.seeds"))


def _check_unsupported(get: GetSetting) -> Iterator[Problem]:
    if get("check"):
        yield Problem("check", "is not supported by tune", "Use bertft train check=true")
    if get("resume") is not None:
        yield Problem(
            "resume",
            "is not supported by tune",
            "Repeat the command of the search with its hydra.sweep.dir",
        )


TUNE_RULES = (_check_tune, _check_unsupported)
