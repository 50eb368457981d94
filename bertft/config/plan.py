"""The jobs of a sweep, all composed and checked before the first starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig

from bertft.config.command_line import split
from bertft.config.compose import attempt, check_words, compose_unchecked
from bertft.config.hydra_errors import RENDERED, problem_of
from bertft.config.hydra_internals import BasicSweeper, Hydra
from bertft.config.messages import Problem, usage_error
from bertft.config.session import Request, session

__all__ = ["Job", "Plan", "plan"]


@dataclass(frozen=True)
class Job:
    """One combination of a sweep, composed and checked."""

    overrides: tuple[str, ...]
    config: DictConfig


@dataclass(frozen=True)
class Plan:
    """What a sweep will do in its ``folder``, and the ``launcher`` that runs it.

    ``jobs`` are None under another ``sweeper`` than Hydra's basic one: it chooses them as it goes.
    """

    folder: Path
    jobs: tuple[Job, ...] | None
    launcher: str
    sweeper: str


def plan(request: Request) -> Plan:
    """One UsageError for all combinations that cannot be."""
    with session(request) as hydra:
        parsed = _parsed(hydra, request)
        if any(split(word)[1] == "hydra/sweeper" for word in request.overrides):
            return _without_jobs(hydra, request, parsed)
        found = _jobs(hydra, request, parsed)
    return _plan(found[0].config, tuple(found))


def _plan(config: DictConfig, jobs: tuple[Job, ...] | None) -> Plan:
    choices = config.hydra.runtime.choices
    folder = Path(config.hydra.sweep.dir)
    return Plan(folder, jobs, choices["hydra/launcher"], choices["hydra/sweeper"])


def _parsed(hydra: Hydra, request: Request) -> list[Override]:
    try:
        parser = OverridesParser.create(hydra.config_loader)
        return parser.parse_overrides(list(request.overrides))
    except OverrideParseException as error:
        wrong, _, _ = check_words(hydra, request, [error.override])
        raise usage_error(wrong) from None
    except RENDERED as error:
        raise usage_error([problem_of(error)]) from None


def _without_jobs(hydra: Hydra, request: Request, parsed: Sequence[Override]) -> Plan:
    """Only what stands fixed can be checked; each job is once it is chosen."""
    pairs = zip(request.overrides, parsed, strict=True)
    fixed = [word for word, override in pairs if not override.is_sweep_override()]
    problems, _, _ = check_words(hydra, request, fixed)
    try:
        config = compose_unchecked(hydra, request, request.overrides, RunMode.MULTIRUN)
    except RENDERED as error:
        problems.append(problem_of(error))
    if problems:
        raise usage_error(problems)
    return _plan(config, None)


def _jobs(hydra: Hydra, request: Request, parsed: list[Override]) -> list[Job]:
    try:
        combinations = BasicSweeper.split_arguments(parsed, None)[0]
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
