"""The plan of a search by successive halving: fixed settings, space, default and budget.

``plan_search`` reads it from a command line and validates it before any run. The sweeper
(``hydra/sweeper=halving``) reads the same plan from the arguments that Hydra passes to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from bertft.config.compose import (
    ComposeRequest,
    compose_unchecked,
    hydra_session,
    try_compose,
    validate_overrides,
)
from bertft.config.hydra_errors import HYDRA_ERRORS, to_problem
from bertft.config.hydra_internals import Hydra
from bertft.config.job_name import job_folder_name
from bertft.config.overrides import split_override
from bertft.config.presets import preset_groups
from bertft.config.rules.tune import tune_problems
from bertft.config.schema import Leaf, node_from_dataclass
from bertft.config.search_space import (
    Space,
    cover,
    default_space,
    fixed_and_searched,
    space_problems,
)
from bertft.config.serialize import to_plain_dict
from bertft.config.tune import TuneSettings, parse_time
from bertft.config.values import value_problems
from bertft.utils.messages import Problem, usage_error

__all__ = ["SWEEPER", "Budget", "SearchPlan", "is_search", "plan_search", "read_plan"]

SWEEPER = "halving"
EVALUATIONS = 8  # per run: rungs at 1/8, 1/4, 1/2 and all of the steps


@dataclass(frozen=True)
class Budget:
    """The settings of a search except its space.

    Attributes:
        trials: number of configurations; None: as many as ``seconds`` allows.
        seconds: wall-clock time of the search; None: no limit.
        seeds: seeds of the final runs.
        seed: seed of the proposals.
    """

    trials: int | None
    seconds: float | None
    seeds: tuple[int, ...]
    seed: int

    @classmethod
    def read(cls, group: str, settings: Mapping[str, Any]) -> Budget:
        """The budget in the settings of ``group``. UsageError for invalid values."""
        problems: list[Problem] = []
        trials, time = settings["trials"], settings["time"]
        seeds: Any = settings["seeds"]
        if OmegaConf.is_config(seeds):
            seeds = OmegaConf.to_container(seeds)
        leaves = node_from_dataclass(TuneSettings, group).children
        for name in ("trials", "time", "seed"):  # the sweeper's own schema has no bounds
            leaf = leaves[name]
            assert isinstance(leaf, Leaf)
            problems += value_problems(leaf, settings[name])
        _raise_problems(problems or list(tune_problems(group, trials, time, seeds)))
        seconds = None if time is None else parse_time(time)
        return cls(trials, seconds, tuple(seeds), settings["seed"])


@dataclass(frozen=True)
class SearchPlan:
    """What a search does.

    Attributes:
        folder: the folder of the search.
        launcher: the name of Hydra's launcher.
        fixed: overrides of every run.
        space: the settings to search.
        default: the values of the default configuration; None if ``space`` does not contain them.
        default_folder: the name of the run folder of the default configuration.
        evaluations: evaluations per run.
        base_seed: the setting ``seed``, with which the trials are trained.
        quiet: print only the result.
    """

    folder: Path
    launcher: str
    fixed: tuple[str, ...]
    space: Space
    budget: Budget
    default: Mapping[str, str] | None
    default_folder: str
    evaluations: int
    base_seed: int
    quiet: bool

    @property
    def identity(self) -> dict[str, Any]:
        """What must stay the same if the search is continued, as JSON values."""
        return {
            "default": self.default_folder,
            "space": {key: distribution.text for key, distribution in self.space.items()},
            "seed": self.budget.seed,
        }


def is_search(overrides: Sequence[str]) -> bool:
    """Whether the overrides of a sweep select the sweeper of this module."""
    return any(split_override(word)[1:] == ("hydra/sweeper", SWEEPER) for word in overrides)


def plan_search(request: ComposeRequest) -> SearchPlan:
    """The plan of a command line. UsageError with the problems of the settings and of the space."""
    with hydra_session(request) as hydra:
        try:
            parser = OverridesParser.create(hydra.config_loader)
            parsed = parser.parse_overrides(list(request.overrides))
        except OverrideParseException as error:
            problems, _, _ = validate_overrides(hydra, request, [error.override])
            raise usage_error(problems or [to_problem(error)]) from None
        except HYDRA_ERRORS as error:
            raise usage_error([to_problem(error)]) from None
        fixed = [word.input_line or "" for word in parsed if not word.is_sweep_override()]
        default, problems = try_compose(hydra, request, fixed)
        _raise_problems(problems)
        assert default is not None
        try:
            config = compose_unchecked(hydra, request, request.overrides, RunMode.MULTIRUN)
            settings = OmegaConf.to_container(config.hydra.sweeper)
        except HYDRA_ERRORS as error:
            raise usage_error([to_problem(error)]) from None
        assert isinstance(settings, dict)
        budget = Budget.read("hydra.sweeper", {str(key): value for key, value in settings.items()})
        plan = read_plan(parsed, parser, default, budget)
        _check_space(hydra, request, fixed, plan.space)
    return plan


def read_plan(
    parsed: Sequence[Override],
    parser: OverridesParser,
    config: DictConfig,
    budget: Budget,
) -> SearchPlan:
    """The plan of parsed overrides; ``config`` is composed of those without a distribution."""
    own = [override for override in parsed if not override.is_hydra_override()]
    fixed, space = fixed_and_searched(own)
    explicit = {split_override(word)[1] for word in fixed}
    _raise_problems(
        [
            Problem(key, "is set to a value and searched", "Leave out one of them")
            for key in space.keys() & explicit
        ]
    )
    if not space:
        texts = default_space(to_plain_dict(config), explicit)
        if not texts:
            raise _empty_space_error()
        words = [f"{key}={text}" for key, text in texts.items()]
        space = fixed_and_searched(parser.parse_overrides(words))[1]
    evaluations = config.trainer.evaluations
    if evaluations is None:
        if config.trainer.evaluate_every is not None:
            raise usage_error(
                [
                    Problem(
                        "trainer.evaluate_every",
                        "is not supported by a search: trials stop at evaluations after fixed"
                        " fractions of the steps",
                        f"Set trainer.evaluations={EVALUATIONS} instead",
                    )
                ]
            )
        evaluations = EVALUATIONS
        fixed.append(f"trainer.evaluations={evaluations}")
        OmegaConf.update(config, "trainer.evaluations", evaluations)
    if config.trainer.stop_at is not None:
        raise usage_error(
            [Problem("trainer.stop_at", "is not supported by a search", "Leave it out")]
        )
    return SearchPlan(
        folder=Path(config.hydra.sweep.dir),
        launcher=config.hydra.runtime.choices["hydra/launcher"],
        fixed=tuple(fixed),
        space=space,
        budget=budget,
        default=_default_values(config, space),
        default_folder=job_folder_name(to_plain_dict(config)),
        evaluations=evaluations,
        base_seed=config.seed,
        quiet=config.quiet,
    )


def _default_values(config: DictConfig, space: Space) -> dict[str, str] | None:
    choices, values = config.hydra.runtime.choices, {}
    for key, distribution in space.items():
        value = choices.get(key) if key in preset_groups() else OmegaConf.select(config, key)
        value = OmegaConf.to_object(value) if OmegaConf.is_config(value) else value
        text = distribution.find(value)
        if text is None:
            return None
        values[key] = text
    return values


def _check_space(hydra: Hydra, request: ComposeRequest, fixed: Sequence[str], space: Space) -> None:
    """UsageError unless every extreme value of the space gives a valid configuration."""
    _raise_problems(list(space_problems(space)))
    problems: list[Problem] = []
    for words in cover(space):
        problems += try_compose(hydra, request, [*fixed, *words])[1]
    _raise_problems(problems)


def _raise_problems(problems: Sequence[Problem]) -> None:
    if problems:
        raise usage_error(problems)


def _empty_space_error() -> Exception:
    return usage_error(
        [
            Problem(
                "tune.space",
                "is empty: the command sets everything that the method's default space contains",
                "Add a setting, as in tune.space.method.rank=choice(2,4,8)",
            )
        ]
    )
