"""The space of a search: settings with distributions, in the syntax of Hydra's sweeps.

method.rank=choice(2,4,8)                          one of the values; also method.rank=2,4,8
method.rank=range(2,9,2)                           2, 4, 6 or 8
method.low_rank.dropout=interval(0,0.3)            a number
trainer.learning_rate=tag(log,interval(1e-4,1e-2)) a number, uniform in its logarithm
trainer.batch_size=int(interval(8,64))             a whole number
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep, Transformer

from bertft.config.overrides import split_override
from bertft.config.presets import preset_groups
from bertft.config.registry import METHODS
from bertft.config.schema import Leaf, Node, find_setting, settings_tree
from bertft.config.setting import MAX_LEARNING_RATE
from bertft.config.values import value_problems
from bertft.utils.messages import Problem, usage_error

__all__ = [
    "Distribution",
    "Space",
    "combinations",
    "cover",
    "default_space",
    "fixed_and_searched",
    "read_distribution",
    "space_problems",
    "to_words",
]

_DIGITS = 4  # significant digits of a number that is proposed, so that it can be read and copied
_RATE_FACTOR = 10.0  # a learning rate of the default space is at most this times lower or higher

# Settings of ``data`` that change neither the validation rows nor the metric.
_SEARCHED_DATA = ("max_length", "stride", "max_answer_length", "no_answer_threshold")
# Setting → what to do instead of searching it.
_UNSUPPORTED = {
    "seed": "Set tune.seeds to compare the best configuration with the default over several seeds",
    "experiment": "Run one search per experiment",
    "trainer.evaluations": "Set it to one value: trials can stop at these evaluations",
    "trainer.evaluate_every": (
        "Set trainer.evaluations to one value: trials can stop at these evaluations"
    ),
    "trainer.on_collapse": "Set it to one value",
    "trainer.stop_at": "Leave it out: the search decides where a trial stops",
    "trainer.checkpoint_every": "Leave it out",
    "trainer.keep_checkpoints": "Leave it out",
}

Space = Mapping[str, "Distribution"]


@dataclass(frozen=True)
class Distribution:
    """The values of a setting: either ``choices``, or the numbers from ``low`` to ``high``.

    Attributes:
        text: the distribution as it was written.
        choices: the values as on the command line; empty for numbers.
        is_integer, is_log: whether numbers are whole, and uniform in their logarithm.
        step: the distance of whole numbers.
        sign: the sign before the setting in an override, such as ``++``.
    """

    text: str
    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    is_integer: bool = False
    is_log: bool = False
    step: int = 1
    sign: str = ""

    @property
    def size(self) -> int | None:
        """The number of values; None if there are infinitely many."""
        if self.choices:
            return len(self.choices)
        return int(self.high - self.low) // self.step + 1 if self.is_integer else None

    def values(self) -> list[str]:
        """All values as on the command line, of a distribution with a ``size``."""
        return list(self.choices) or [
            str(number) for number in range(int(self.low), int(self.high) + 1, self.step)
        ]

    def extremes(self) -> list[str]:
        """Values that cover the range: every choice, or both ends."""
        return list(self.choices) or [self.format(self.low), self.format(self.high)]

    def format(self, number: float) -> str:
        """``number`` as on the command line, rounded but not beyond the ends."""
        if self.is_integer:
            return str(int(number))
        rounded = float(f"{number:.{_DIGITS}g}")
        return repr(min(max(rounded, float(self.low)), float(self.high)))

    def find(self, value: Any) -> str | None:
        """The value as on the command line if it is one of this distribution; else None."""
        if self.choices:
            texts = [text for text in self.choices if _is_equal(text, value)]
            return texts[0] if texts else None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return None
        if not self.low <= value <= self.high:
            return None
        if self.is_integer:
            is_step = float(value).is_integer() and (value - self.low) % self.step == 0
            return str(int(value)) if is_step else None
        return repr(float(value))


def _is_equal(text: str, value: Any) -> bool:
    """Whether ``text``, a value of an override, means ``value``."""
    if isinstance(value, bool) or value is None:
        return text.casefold() == {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, (int, float)):
        try:
            return float(text) == value
        except ValueError:
            return False
    if isinstance(value, list):
        return text.replace(" ", "").replace("'", "") == f"[{','.join(map(str, value))}]"
    return text.strip("'\"") == value


def read_distribution(override: Override) -> Distribution:
    """The distribution of a parsed sweep. UsageError if it has no or only one value."""
    key, value = override.get_key_element().lstrip("+"), override.value()
    text = (override.input_line or "").partition("=")[2]
    tags: set[str] = getattr(value, "tags", set())
    if isinstance(value, IntervalSweep):
        tags = tags - {"log"}
    if tags or getattr(value, "shuffle", False):
        name = f"tag({', '.join(sorted(tags))}, ...)" if tags else "shuffle"
        hint = "The only tag is log, of an interval: tag(log,interval(1e-4,1e-2))"
        if not tags:
            hint = "Leave it out: the first proposals are random"
        raise usage_error([Problem(key, f"{name} is not supported in {text}", hint)])
    if isinstance(value, IntervalSweep):
        return _read_interval(key, value, text)
    if isinstance(value, RangeSweep) and all(
        isinstance(number, int) for number in (value.start, value.stop, value.step)
    ):
        numbers = value.range()
        assert isinstance(numbers, range)
        if len(numbers) < 2:
            raise _one_value_error(key, text)
        low, high = min(numbers), max(numbers)
        step = abs(numbers.step)
        return Distribution(text, low=low, high=high, is_integer=True, step=step)
    choices = tuple(dict.fromkeys(map(str, override.sweep_iterator(Transformer.str))))
    if len(choices) < 2:
        raise _one_value_error(key, text)
    return Distribution(text, choices)


def _read_interval(key: str, value: IntervalSweep, text: str) -> Distribution:
    low, high, is_log = value.start, value.end, "log" in value.tags
    assert low is not None and high is not None
    if not (math.isfinite(low) and math.isfinite(high)) or low >= high:
        raise usage_error(
            [Problem(key, f"{text} is not an interval", "Write interval(low,high) with low < high")]
        )
    if is_log and low <= 0:
        raise usage_error(
            [Problem(key, f"{text} has no logarithm at {low:g}", "Use a lower end above 0")]
        )
    is_integer = isinstance(low, int) and isinstance(high, int)
    return Distribution(text, low=low, high=high, is_integer=is_integer, is_log=is_log)


def _one_value_error(key: str, text: str) -> Exception:
    hint = f"Write choice(a,b) with several values, or {key}=<value> without a distribution"
    return usage_error([Problem(key, f"{text} has fewer than two values", hint)])


def default_space(config: Mapping[str, Any], explicit: Collection[str]) -> dict[str, str]:
    """Setting → distribution: learning rates first, then what the method's components declare.

    Args:
        config: the composed configuration.
        explicit: settings on the command line, which are kept as they are.
    """
    method = config["method"]
    components = [name for name in METHODS.specs() if method.get(name) is not None]
    rates = [f"method.{name}.learning_rate" for name in components]
    rates = [path for path in rates if _get(config, path) is not None]
    rates.append("method.head_learning_rate")
    if _get(config, "trainer.learning_rate") is not None:  # it replaces all of them
        rates = ["trainer.learning_rate"]
    space = {path: _around(float(_get(config, path))) for path in rates}
    for name in components:
        if name == "distill" and method[name].get("teacher") is None:
            continue
        searched = METHODS[name].search
        space |= {f"method.{name}.{setting}": text for setting, text in searched.items()}
    return {path: text for path, text in space.items() if path not in explicit}


def _around(rate: float) -> str:
    high = min(rate * _RATE_FACTOR, MAX_LEARNING_RATE)
    return f"tag(log,interval({rate / _RATE_FACTOR:.{_DIGITS}g},{high:.{_DIGITS}g}))"


def _get(config: Mapping[str, Any], path: str) -> Any:
    value: Any = config
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def space_problems(space: Space) -> Iterator[Problem]:
    """Settings that a search does not support, and distributions outside of a setting's bounds.

    Unknown settings and presets are found when a configuration is composed.
    """
    for key, distribution in space.items():
        if (problem := _unsupported(key)) is not None:
            yield problem
            continue
        leaf, _ = find_setting(settings_tree("train"), key)
        if isinstance(leaf, Leaf) and leaf.path == key and leaf.type is not Any:
            where = f"{key}={distribution.text}"
            for text in distribution.extremes():
                yield from value_problems(leaf, _parse(text), where)


def _unsupported(key: str) -> Problem | None:
    if key in _UNSUPPORTED:
        return Problem(key, "cannot be searched", _UNSUPPORTED[key])
    group, _, name = key.partition(".")
    if group == "data" and name not in _SEARCHED_DATA:
        return Problem(
            key,
            "cannot be searched, because it can change the rows or the metric that the trials are"
            " compared with",
            "Run one search per value",
        )
    leaf, _ = find_setting(settings_tree("train"), key)
    if isinstance(leaf, Leaf) and (not leaf.affects_result or leaf.on_resume == "change"):
        return Problem(key, "cannot be searched, because it has no effect on the metric")
    if isinstance(leaf, Node) and key not in preset_groups():
        return Problem(key, "is a group of settings", "Search its settings one by one")
    return None


def _parse(text: str) -> Any:
    """A value of an override: null becomes None; numbers and names are converted by OmegaConf."""
    return None if text.casefold() == "null" else text.strip("'\"")


def cover(space: Space) -> Iterator[list[str]]:
    """Lists of overrides that contain every extreme value of every distribution at least once."""
    extremes = {key: distribution.extremes() for key, distribution in space.items()}
    for index in range(max(map(len, extremes.values()), default=0)):
        yield to_words(space, {key: texts[index % len(texts)] for key, texts in extremes.items()})


def to_words(space: Space, params: Mapping[str, str]) -> list[str]:
    """The overrides that set ``params``, values of ``space``."""
    return [f"{space[key].sign}{key}={text}" for key, text in params.items()]


def combinations(space: Space, limit: int) -> list[tuple[str, ...]] | None:
    """All combinations of values; None if there are more than ``limit``."""
    sizes = [distribution.size for distribution in space.values()]
    total = math.prod(size or limit + 1 for size in sizes)
    if total > limit:
        return None
    return list(itertools.product(*(distribution.values() for distribution in space.values())))


def fixed_and_searched(
    overrides: Sequence[Override],
) -> tuple[list[str], dict[str, Distribution]]:
    """The overrides of every run, and the space of those with a distribution."""
    fixed: list[str] = []
    space: dict[str, Distribution] = {}
    for override in overrides:
        line = override.input_line or ""
        sign, key, _ = split_override(line)
        if not override.is_sweep_override():
            fixed.append(line)
            continue
        distribution = replace(read_distribution(override), sign=sign)
        leaf, _ = find_setting(settings_tree("train"), key)
        if isinstance(leaf, Leaf) and leaf.type is int and not distribution.choices:
            low, high = math.ceil(distribution.low), math.floor(distribution.high)
            if low >= high:
                raise _one_value_error(key, distribution.text)
            distribution = replace(distribution, low=low, high=high, is_integer=True)
        space[key] = distribution
    return fixed, space
