"""The configuration of a run that goes on: its own, with what may change changed.

A run goes on exactly as it was begun, or its end would be that of no configuration. Only how long
it trains (upwards), where, and what is shown may be told anew; any other setting that is given
must say what the run's own says. So the command that began a run can be repeated with
``resume=auto``.

A run folder may come from somebody else, so its configuration is read as plain data and grants
nothing: ``trust_remote_code`` is what the present command line says, whatever the file says, and
rows are cached where the present command line or $BERTFT_CACHE says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bertft.config.checks import check_whole
from bertft.config.commands import TrainConfig
from bertft.config.former_names import rename_settings
from bertft.config.messages import Problem, usage_error
from bertft.config.plain import plain
from bertft.config.plain_yaml import read_plain_yaml
from bertft.config.registry import METHODS, OPTIMIZERS, RESERVED, TASKS
from bertft.config.schema import leaves, tree
from bertft.config.shown import SHOWN
from bertft.errors import DataError, UsageError

__all__ = ["config_of_run", "resumed", "runnable_config"]

_UPWARDS = ("trainer.epochs", "trainer.max_steps")
_FREE = (
    "trainer.device", "trainer.log_every", "experiment", "data.cache", *SHOWN,
)  # fmt: skip


def resumed(folder: Path, asked: DictConfig, given: Sequence[str]) -> TrainConfig:
    """The configuration under which the run in ``folder`` goes on.

    ``asked`` is the composed configuration and ``given`` the paths that the command line sets
    (a group's name stands for all that it holds). UsageError lists each setting that may not
    change; DataError if the run's configuration cannot be read.
    """
    own = _own(folder)
    own.resume, problems = asked.resume, []
    own.data.cache = asked.data.cache
    if own.model.trust_remote_code and not asked.model.trust_remote_code:
        raise _untrusted(folder, "model.trust_remote_code")
    for leaf in leaves(tree("train")):
        if leaf.path == "resume":
            continue
        # Below a setting of any type, only what is given is compared.
        inside = [name for name in given if name.startswith(f"{leaf.path}.")]
        values = {name: (_value(asked, leaf.path, name), _value(own, leaf.path, name))
                  for name in inside}  # fmt: skip
        changed = [
            Problem(name, f"the run has {old}, not {new}", _HINT)
            for name, (new, old) in values.items()
            if new != old
        ]
        if changed or not any(_covers(name, leaf.path) for name in given):
            problems += changed
            continue
        new, old = OmegaConf.select(asked, leaf.path), OmegaConf.select(own, leaf.path)
        if leaf.path == "trainer.epochs" and old is None and own.trainer.max_steps is None:
            old = own.method.epochs
        if new == old:
            continue
        if leaf.path in _FREE:
            OmegaConf.update(own, leaf.path, new)
        elif leaf.path not in _UPWARDS or new is None:
            problems.append(Problem(leaf.path, f"the run has {old}, not {new}", _HINT))
        elif old is None:
            other = "max_steps" if leaf.path == "trainer.epochs" else "epochs"
            problems.append(
                Problem(leaf.path, f"the run counts in {other}", f"Give trainer.{other}")
            )
        elif new > old:
            OmegaConf.update(own, leaf.path, new)
        else:
            problems.append(Problem(leaf.path, f"{new} is not above the run's {old}", _HINT))
    if problems:
        raise usage_error(problems)
    config = OmegaConf.to_object(own)
    assert isinstance(config, TrainConfig)
    return config


def config_of_run(folder: Path) -> TrainConfig:
    """The configuration of the run in ``folder``, to read. DataError if it cannot be read.

    ``model.trust_remote_code`` is false and ``data.cache`` null, whatever the file says.
    """
    config = OmegaConf.to_object(_own(folder))
    assert isinstance(config, TrainConfig)
    return replace(
        config, model=replace(config.model, trust_remote_code=False),
        data=replace(config.data, cache=None),
    )  # fmt: skip


def runnable_config(folder: Path, trust: bool, setting: str = "trust_remote_code") -> TrainConfig:
    """The same, to load the run's model. UsageError where that needs code that comes with it and
    the command line does not ``trust`` it; ``setting`` is the one that would.
    """
    recorded = bool(_own(folder).model.trust_remote_code)
    if recorded and not trust:
        raise _untrusted(folder, setting)
    config = config_of_run(folder)
    return replace(config, model=replace(config.model, trust_remote_code=recorded and trust))


def _untrusted(folder: Path, setting: str) -> UsageError:
    return UsageError(
        "the run was trained with model.trust_remote_code=true: loading it executes code that"
        " comes with its model", where=str(folder),
        hint=f"If you trust its author, add {setting}=true",
    )  # fmt: skip


_HINT = "A run goes on under its own configuration: leave it out, or start another run"


def _covers(name: str, path: str) -> bool:
    return path == name or path.startswith(f"{name}.")


def _value(config: DictConfig, leaf: str, path: str) -> Any:
    """What is at ``path`` below the setting ``leaf`` of any type; None where nothing is."""
    value = OmegaConf.select(config, leaf)
    for name in path.removeprefix(f"{leaf}.").split("."):
        value = value.get(name) if isinstance(value, DictConfig) else None
    return value


def _of_earlier_versions(content: dict[str, Any]) -> None:
    """Settings that came later, as they were in effect before."""
    data = content.get("data")
    if isinstance(data, dict) and "max_skipped" not in data:
        data["max_skipped"] = 1.0  # any share of the rows could be skipped
        if data.get("quoting") is True:  # the default then, which left .tsv files alone
            data["quoting"] = None


def _of_other_packages(content: dict[str, Any], file: Path) -> None:
    """Leave out what only a package that is not installed knows and the run does not use.

    DataError where the run uses it.
    """
    method = content.get("method")
    if isinstance(method, dict):
        for node in [str(each) for each in method if each not in METHODS and each not in RESERVED]:
            if method.get(node) is not None:
                METHODS.report_missing(node, f"method.{node}", str(file))
            method.pop(node, None)
    for registry in (TASKS, OPTIMIZERS):
        group, _, key = registry.setting.partition(".")
        settings = content.get(group)
        name = settings.get(key) if isinstance(settings, dict) else None
        if isinstance(name, str) and name not in registry:
            registry.report_missing(name, registry.setting, str(file))


def _own(folder: Path) -> Any:
    file = folder / "config.yaml"
    if not file.is_file():
        raise usage_error([Problem("resume", f"{folder} holds no run", "Give the folder of a run")])
    told = read_plain_yaml(file)
    try:
        if not isinstance(told, dict):
            raise ValueError("it holds no settings")
        told = rename_settings(tree("train"), told)
        _of_earlier_versions(told)
        _of_other_packages(told, file)
        own = OmegaConf.merge(OmegaConf.structured(TrainConfig), told)
        assert isinstance(own, DictConfig)
        OmegaConf.to_object(own)  # what must be given is there
    except (OmegaConfBaseException, ValueError, TypeError, RecursionError) as error:
        first = str(error).strip().split("\n")[0]
        raise DataError(
            f"cannot be read ({first})", where=str(file), hint="Was it edited or cut short?"
        ) from error
    # It was held to the rules before it was written; whoever edited it since was not.
    content = plain(own)
    content["resume"] = str(folder)  # as of a run that goes on: its files may have moved since
    for problem in check_whole("train", content):
        raise DataError(
            f"{problem.where} {problem.what}", where=str(file),
            hint=problem.hint or "Was it edited?",
        )  # fmt: skip
    return own
