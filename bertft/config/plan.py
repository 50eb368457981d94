"""The jobs of a sweep, all composed and checked before the first starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig

from bertft.config.command_line import split
from bertft.config.compose import Request, attempt, check_words, compose_unchecked, session
from bertft.config.hydra_errors import RENDERED, problem_of
from bertft.config.messages import Problem, usage_error

__all__ = ["Job", "plan"]


@dataclass(frozen=True)
class Job:
    """One combination of a sweep, composed and checked."""

    overrides: tuple[str, ...]
    config: DictConfig


def plan(request: Request) -> tuple[Path, list[Job] | None]:
    """The folder of a sweep and its jobs; one UsageError for all combinations that cannot be.

    The jobs are None under another sweeper than Hydra's basic one: it chooses them as it goes.
    """
    with session(request) as hydra:
        if any(split(word)[1] == "hydra/sweeper" for word in request.overrides):
            config = compose_unchecked(hydra, request, request.overrides, RunMode.MULTIRUN)
            return Path(config.hydra.sweep.dir), None
        found = _jobs(hydra, request)
    return Path(found[0].config.hydra.sweep.dir), found


def _jobs(hydra: Hydra, request: Request) -> list[Job]:
    try:
        parser = OverridesParser.create(hydra.config_loader)
        parsed = parser.parse_overrides(list(request.overrides))
        combinations = BasicSweeper.split_arguments(parsed, None)[0]
    except OverrideParseException as error:
        wrong, _, _ = check_words(hydra, request, [error.override])
        raise usage_error(wrong) from None
    except RENDERED as error:
        raise usage_error([problem_of(error)]) from None
    swept = [override.get_key_element() for override in parsed if override.is_sweep_override()]
    found, problems = [], []
    for words in combinations:
        config, wrong = attempt(hydra, request, words)
        if config is not None and not wrong:
            found.append(Job(tuple(words), config))
        name = " ".join(word for word in words if word.partition("=")[0] in swept)
        problems += [(name, problem) for problem in wrong]
    if problems:
        raise usage_error(_merged(problems, len(combinations)))
    return found


def _merged(problems: Sequence[tuple[str, Problem]], total: int) -> list[Problem]:
    """Each problem once, with the combinations that have it unless all do."""
    owners: dict[Problem, list[str]] = {}
    for name, problem in problems:
        owners.setdefault(problem, []).append(name)
    merged = []
    for problem, names in owners.items():
        shown = "; ".join(names[:3]) + (f"; and {len(names) - 3} more" if len(names) > 3 else "")
        where = problem.where if len(names) == total else f"{problem.where} ({shown})"
        merged.append(Problem(where, problem.what, problem.hint))
    return merged
