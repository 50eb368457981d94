"""The jobs of a sweep, composed and validated before the first one starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig

from bertft.config.compose import (
    ComposeRequest,
    compose_unchecked,
    hydra_session,
    try_compose,
    validate_overrides,
)
from bertft.config.hydra_errors import HYDRA_ERRORS, to_problem
from bertft.config.hydra_internals import BasicSweeper, Hydra
from bertft.config.overrides import split_override
from bertft.errors import UsageError
from bertft.utils.messages import Problem, usage_error

__all__ = ["SweepJob", "SweepPlan", "check_sweep_input", "plan_sweep"]


@dataclass(frozen=True)
class SweepJob:
    """One combination of a sweep, composed and validated."""

    overrides: tuple[str, ...]
    config: DictConfig


@dataclass(frozen=True)
class SweepPlan:
    """The jobs of a sweep, its folder and the ``launcher`` that runs it.

    ``jobs`` is None for any ``sweeper`` but Hydra's basic one, because it chooses the jobs while
    it runs.
    """

    folder: Path
    jobs: tuple[SweepJob, ...] | None
    launcher: str
    sweeper: str


def check_sweep_input(overrides: Sequence[str]) -> None:
    """UsageError if the jobs would read standard input."""
    if any(split_override(word)[1:] == ("data.train", "'-'") for word in overrides):
        raise UsageError(
            "standard input is not supported in a sweep: each job reads the rows",
            where="data.train=-",
            hint="Write the rows to a file and set data.train=<file>",
        )


def plan_sweep(request: ComposeRequest) -> SweepPlan:
    """The plan of the sweep. UsageError with the problems of all combinations."""
    with hydra_session(request) as hydra:
        parsed = _parse_overrides(hydra, request)
        if any(split_override(word)[1] == "hydra/sweeper" for word in request.overrides):
            return _plan_without_jobs(hydra, request, parsed)
        jobs = _compose_jobs(hydra, request, parsed)
    return _build_plan(jobs[0].config, tuple(jobs))


def _build_plan(config: DictConfig, jobs: tuple[SweepJob, ...] | None) -> SweepPlan:
    choices = config.hydra.runtime.choices
    folder = Path(config.hydra.sweep.dir)
    return SweepPlan(folder, jobs, choices["hydra/launcher"], choices["hydra/sweeper"])


def _parse_overrides(hydra: Hydra, request: ComposeRequest) -> list[Override]:
    try:
        parser = OverridesParser.create(hydra.config_loader)
        return parser.parse_overrides(list(request.overrides))
    except OverrideParseException as error:
        override_problems, _, _ = validate_overrides(hydra, request, [error.override])
        raise usage_error(override_problems) from None
    except HYDRA_ERRORS as error:
        raise usage_error([to_problem(error)]) from None


def _plan_without_jobs(
    hydra: Hydra, request: ComposeRequest, parsed: Sequence[Override]
) -> SweepPlan:
    """A plan for which only the fixed overrides are validated; jobs are validated when chosen."""
    pairs = zip(request.overrides, parsed, strict=True)
    fixed = [word for word, override in pairs if not override.is_sweep_override()]
    problems, _, _ = validate_overrides(hydra, request, fixed)
    try:
        config = compose_unchecked(hydra, request, request.overrides, RunMode.MULTIRUN)
    except HYDRA_ERRORS as error:
        problems.append(to_problem(error))
    if problems:
        raise usage_error(problems)
    return _build_plan(config, None)


def _compose_jobs(hydra: Hydra, request: ComposeRequest, parsed: list[Override]) -> list[SweepJob]:
    try:
        combinations = BasicSweeper.split_arguments(parsed, None)[0]
    except HYDRA_ERRORS as error:
        raise usage_error([to_problem(error)]) from None
    swept_keys = [override.get_key_element() for override in parsed if override.is_sweep_override()]
    jobs, problems = [], []
    for words in combinations:
        config, job_problems = try_compose(hydra, request, words)
        if config is not None and not job_problems:
            jobs.append(SweepJob(tuple(words), config))
        name = " ".join(word for word in words if word.partition("=")[0] in swept_keys)
        problems += [(name, problem) for problem in job_problems]
    if problems:
        raise usage_error(_merge_problems(problems, len(combinations)))
    return jobs


def _merge_problems(problems: Sequence[tuple[str, Problem]], total: int) -> list[Problem]:
    """Each problem once, with its combinations if not all of them have it."""
    names_by_problem: dict[Problem, list[str]] = {}
    for name, problem in problems:
        names_by_problem.setdefault(problem, []).append(name)
    merged = []
    for problem, names in names_by_problem.items():
        shown = "; ".join(names[:3]) + (f"; and {len(names) - 3} more" if len(names) > 3 else "")
        where = problem.where if len(names) == total else f"{problem.where} ({shown})"
        merged.append(Problem(where, problem.what, problem.hint))
    return merged
