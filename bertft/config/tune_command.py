"""``bertft tune``: its arguments as those of a sweep with ``hydra/sweeper=halving``.

    bertft tune a.csv tune.trials=8 tune.space.method.rank=choice(2,4)
    → train -m data=files data.train=a.csv method.rank=choice(2,4)
      hydra/sweeper=halving hydra.sweeper.trials=8 ...

Every other setting belongs to the runs of the search, so that a run of the search and a run of
``bertft train`` with the same settings have the same configuration.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf

from bertft.config.compose import ComposeRequest, compose_config
from bertft.config.overrides import format_value, rewrite_overrides, split_override, unquote_value
from bertft.config.search_plan import SWEEPER
from bertft.config.tune import TuneSettings
from bertft.utils.messages import Problem, usage_error

__all__ = ["fixed_words", "sweep_words"]

_SPACE = "tune.space"
_EXAMPLE = f"Write {_SPACE}.method.rank=choice(2,4,8)"
_COMMAND_SETTINGS = ("check", "resume")  # tune reports that it does not support them


def sweep_words(words: Sequence[str], config_dir: Path | None = None) -> list[str]:
    """The arguments of ``bertft train -m`` for those of ``bertft tune``.

    Args:
        words: the arguments after ``expand_positional`` and ``expand_config_file``.
        config_dir: the folder of ``--config-dir``.

    Raises:
        UsageError: lists every problem of ``tune.*``.
    """
    own, of_runs = _split(words)
    checked = [word for word in of_runs if split_override(word)[1] in _COMMAND_SETTINGS]
    overrides = rewrite_overrides("tune", [*own, *checked], config_dir=config_dir)
    config = compose_config(ComposeRequest("tune", tuple(overrides), config_dir))
    settings = OmegaConf.to_container(config.tune)
    assert isinstance(settings, dict)
    folder = config.hydra.sweep.dir
    kept = []
    for word in of_runs:
        _, key, value = split_override(word)
        if key in ("hydra.run.dir", "hydra.sweep.dir"):
            folder = unquote_value(value or "")
        elif key not in _COMMAND_SETTINGS:
            kept.append(word)
    names = [field.name for field in fields(TuneSettings) if field.name != "space"]
    return [
        *kept,
        f"hydra/sweeper={SWEEPER}",
        *(f"hydra.sweeper.{name}={format_value(settings[name])}" for name in names),
        f"hydra.sweep.dir={folder}",
    ]


def fixed_words(words: Sequence[str]) -> list[str]:
    """``words`` of ``bertft tune`` without those that have a distribution, for ``--cfg job``."""
    own, of_runs = _split(words)
    searched = {
        word
        for word in rewrite_overrides("train", of_runs, sweep=True)
        if _is_distribution(split_override(word)[2] or "")
    }
    keys = {split_override(word)[1] for word in searched}
    return [*own, *(word for word in of_runs if split_override(word)[1] not in keys)]


def _split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The settings of the search itself, and those of its runs with the space."""
    own: list[str] = []
    of_runs: list[str] = []
    problems: list[Problem] = []
    for word in words:
        _, key, value = split_override(word)
        if key == _SPACE:
            for setting, text in _read_mapping(value or ""):
                problems += _distribution_problems(setting, text)
                of_runs.append(f"{setting}={text}")
        elif key.startswith(f"{_SPACE}."):
            setting, text = key.removeprefix(f"{_SPACE}."), value or ""
            problems += _distribution_problems(setting, text)
            of_runs.append(f"{setting}={text}")
        elif key.partition(".")[0] == "tune":
            own.append(word)
        else:
            of_runs.append(word)
    if problems:
        raise usage_error(problems)
    return own, of_runs


def _read_mapping(text: str) -> Iterator[tuple[str, str]]:
    """The items of ``{setting: distribution, ...}``, which Hydra's grammar cannot express."""
    text = text.strip()
    if text.casefold() == "null":
        return
    if not (text.startswith("{") and text.endswith("}")):
        raise usage_error(
            [Problem(_SPACE, f"expected {{setting: distribution}}, got {text}", _EXAMPLE)]
        )
    items = [item for item in _split_items(text[1:-1]) if item]
    if not items:
        raise usage_error([Problem(_SPACE, "is empty: there is nothing to search", _EXAMPLE)])
    for item in items:
        setting, colon, distribution = item.partition(":")
        if not colon:
            raise usage_error([Problem(_SPACE, f"{item} has no distribution", _EXAMPLE)])
        yield unquote_value(setting.strip()), unquote_value(distribution.strip())


def _split_items(text: str) -> list[str]:
    """``text`` split at the commas outside of brackets and quotes."""
    items, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif character == "," and depth == 0:
            items.append("")
            continue
        items[-1] += character
    return [item.strip() for item in items]


def _distribution_problems(setting: str, text: str) -> Iterator[Problem]:
    if not _is_distribution(text):
        hint = "Write choice(a,b), range(2,9,2), interval(0,0.3) or tag(log,interval(1e-4,1e-2))"
        yield Problem(f"{_SPACE}.{setting}", f"{text!r} is not a distribution", hint)


def _is_distribution(text: str) -> bool:
    try:
        override = OverridesParser.create().parse_override(f"key={text}")
    except HydraException:
        return False
    return override.is_sweep_override()
