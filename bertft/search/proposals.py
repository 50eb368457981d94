"""Proposals of configurations by Optuna's TPE sampler (Bergstra et al. 2011), or of a whole grid.

A proposal is a function of the seed, its number and the results of the trials before it, and of
nothing else: a search that is killed and repeated proposes the same configurations.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bertft.config.search_space import Distribution, Space, combinations
from bertft.errors import UsageError
from bertft.search.halving import Trial, rank, wave_ends

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import StudyDirection
    from optuna.trial import FrozenTrial, TrialState

__all__ = [
    "check_optuna",
    "make_frozen_trial",
    "propose",
    "ranked_trials",
    "study_direction",
    "total_trials",
]

_MAX_GRID = 4096  # a space with fewer combinations has no proposal twice
_ATTEMPTS = 20  # proposals of the sampler that were tried before


def check_optuna() -> None:
    """UsageError unless optuna is installed in a supported version."""
    from importlib.metadata import PackageNotFoundError, version

    hint = 'Run pip install "bertft[tune]"'
    try:
        found = version("optuna")
    except PackageNotFoundError:
        raise UsageError("the package optuna is not installed", where="tune", hint=hint) from None
    if int(found.partition(".")[0]) < 4:
        raise UsageError(f"optuna {found} is not supported", where="tune", hint=hint)


def total_trials(space: Space, trials: int | None) -> int | None:
    """``trials``, but not more than there are combinations; None if there is no limit."""
    grid = combinations(space, _MAX_GRID)
    return trials if grid is None else min(len(grid), trials or len(grid))


def propose(
    space: Space, earlier: Sequence[Trial], total: int | None, seed: int, lower_is_better: bool
) -> dict[str, str]:
    """The configuration of trial number ``len(earlier)``.

    Args:
        space: what to search.
        earlier: the trials before it; those of the same wave have no results yet.
        total: the number of trials of the search; None if it is not known.
        seed: the seed of the search.
        lower_is_better: of the metric.
    """
    # A command that is repeated may list the settings in another order.
    params = _propose(dict(sorted(space.items())), earlier, total, seed, lower_is_better)
    return {key: params[key] for key in space}


def _propose(
    space: Space, earlier: Sequence[Trial], total: int | None, seed: int, lower_is_better: bool
) -> dict[str, str]:
    grid = combinations(space, _MAX_GRID)
    tried = {tuple(trial.params[key] for key in space) for trial in earlier}
    if grid is None or total is None or total < len(grid):
        for attempt in range(_ATTEMPTS):
            params = _sample(space, earlier, total, seed, lower_is_better, attempt)
            if tuple(params.values()) not in tried:
                return params
    if grid is None:
        return params
    untried = [values for values in grid if values not in tried]
    values = random.Random(f"{seed} {len(earlier)}").choice(untried)
    return dict(zip(space, values, strict=True))


def _sample(
    space: Space,
    earlier: Sequence[Trial],
    total: int | None,
    seed: int,
    lower_is_better: bool,
    attempt: int,
) -> dict[str, str]:
    import optuna
    from optuna.trial import TrialState

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():  # constant_liar is experimental
        warnings.simplefilter("ignore")
        sampler = optuna.samplers.TPESampler(
            seed=random.Random(f"{seed} {len(earlier)} {attempt}").randrange(2**32),
            n_startup_trials=wave_ends(total)[0],
            constant_liar=True,  # proposals of one wave differ
        )
        study = optuna.create_study(sampler=sampler, direction="minimize")
        succeeded = [trial for trial in earlier if trial.error is None]
        study.add_trials(ranked_trials(space, succeeded, lower_is_better))
        for trial in succeeded:
            if not trial.results:
                study.add_trial(make_frozen_trial(space, trial, TrialState.RUNNING))
        sampled = study.ask(to_optuna(space)).params
    return {
        key: str(sampled[key]) if distribution.choices else distribution.format(sampled[key])
        for key, distribution in space.items()
    }


def study_direction(lower_is_better: bool) -> StudyDirection:
    """The direction of a study for a metric."""
    from optuna.study import StudyDirection

    return StudyDirection.MINIMIZE if lower_is_better else StudyDirection.MAXIMIZE


def ranked_trials(
    space: Space, trials: Sequence[Trial], lower_is_better: bool
) -> list[FrozenTrial]:
    """The trials with a result, as those of Optuna. The value is the place at the first rung.

    TPE and PED-ANOVA depend on the order of the values only, and the metric alone is not the order
    (``halving.rank``). Equal results have the same place.
    """
    from optuna.trial import TrialState

    keys = {
        trial.number: trial.results[0].sort_key(lower_is_better)
        for trial in rank(trials, 0, lower_is_better)
    }
    places = {key: place for place, key in enumerate(dict.fromkeys(keys.values()))}
    return [
        make_frozen_trial(space, trial, TrialState.COMPLETE, places[keys[trial.number]])
        for trial in trials
        if trial.results
    ]


def make_frozen_trial(
    space: Space, trial: Trial, state: TrialState, value: float | None = None
) -> FrozenTrial:
    """``trial`` as one of Optuna."""
    from optuna.trial import create_trial

    return create_trial(
        state=state,
        value=value,
        params={key: _to_value(space[key], text) for key, text in trial.params.items()},
        distributions=to_optuna(space),
        user_attrs={"params": trial.params},
    )


def to_optuna(space: Space) -> dict[str, BaseDistribution]:
    """The distributions of Optuna."""
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    def convert(distribution: Distribution) -> BaseDistribution:
        if distribution.choices:
            return CategoricalDistribution(distribution.choices)
        low, high, log = distribution.low, distribution.high, distribution.is_log
        if distribution.is_integer:
            return IntDistribution(int(low), int(high), log=log, step=distribution.step)
        return FloatDistribution(low, high, log=log)

    return {key: convert(distribution) for key, distribution in space.items()}


def _to_value(distribution: Distribution, text: str) -> str | int | float:
    if distribution.choices:
        return text
    return int(text) if distribution.is_integer else float(text)
