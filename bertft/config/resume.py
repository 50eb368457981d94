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

from bertft.config.choices import DISPLAY_SETTINGS
from bertft.config.command_configs import TrainConfig
from bertft.config.former_names import rename_settings
from bertft.config.registry import METHODS, OPTIMIZERS, RESERVED_METHOD_SETTINGS, TASKS
from bertft.config.schema import iter_leaves, settings_tree
from bertft.config.serialize import to_plain_dict
from bertft.config.validation import validate_config
from bertft.errors import DataError, UsageError
from bertft.utils.messages import Problem, usage_error
from bertft.utils.safe_files import read_plain_yaml

__all__ = ["read_run_config", "read_runnable_config", "resume_config"]

_INCREASABLE_SETTINGS = ("trainer.epochs", "trainer.max_steps")
_CHANGEABLE_SETTINGS = (
    "trainer.device",
    "trainer.log_every",
    "experiment",
    "data.cache",
    *DISPLAY_SETTINGS,
)


def resume_config(
    folder: Path, requested: DictConfig, explicit_paths: Sequence[str]
) -> TrainConfig:
    """The configuration under which the run in ``folder`` goes on.

    ``requested`` is the composed configuration and ``explicit_paths`` the paths that the command
    line sets (a group's name stands for all that it holds). UsageError lists each setting that may
    not change; DataError if the run's configuration cannot be read.
    """
    run_config = _load_run_config(folder)
    run_config.resume, problems = requested.resume, []
    run_config.data.cache = requested.data.cache
    if run_config.model.trust_remote_code and not requested.model.trust_remote_code:
        raise _untrusted_code_error(folder, "model.trust_remote_code")
    for leaf in iter_leaves(settings_tree("train")):
        if leaf.path == "resume":
            continue
        # Below a setting of any type, only what is given is compared.
        inside = [name for name in explicit_paths if name.startswith(f"{leaf.path}.")]
        values = {
            name: (_value(requested, leaf.path, name), _value(run_config, leaf.path, name))
            for name in inside
        }
        changed = [
            Problem(name, f"the run has {old}, not {new}", _RESUME_HINT)
            for name, (new, old) in values.items()
            if new != old
        ]
        if changed or not any(_is_at_or_below(name, leaf.path) for name in explicit_paths):
            problems += changed
            continue
        new, old = OmegaConf.select(requested, leaf.path), OmegaConf.select(run_config, leaf.path)
        if leaf.path == "trainer.epochs" and old is None and run_config.trainer.max_steps is None:
            old = run_config.method.epochs
        if new == old:
            continue
        if leaf.path in _CHANGEABLE_SETTINGS:
            OmegaConf.update(run_config, leaf.path, new)
        elif leaf.path not in _INCREASABLE_SETTINGS or new is None:
            problems.append(Problem(leaf.path, f"the run has {old}, not {new}", _RESUME_HINT))
        elif old is None:
            counted_in = "max_steps" if leaf.path == "trainer.epochs" else "epochs"
            problems.append(
                Problem(leaf.path, f"the run counts in {counted_in}", f"Give trainer.{counted_in}")
            )
        elif new > old:
            OmegaConf.update(run_config, leaf.path, new)
        else:
            problems.append(Problem(leaf.path, f"{new} is not above the run's {old}", _RESUME_HINT))
    if problems:
        raise usage_error(problems)
    config = OmegaConf.to_object(run_config)
    assert isinstance(config, TrainConfig)
    return config


def read_run_config(folder: Path) -> TrainConfig:
    """The configuration of the run in ``folder``, to read. DataError if it cannot be read.

    ``model.trust_remote_code`` is false and ``data.cache`` null, whatever the file says.
    """
    config = OmegaConf.to_object(_load_run_config(folder))
    assert isinstance(config, TrainConfig)
    return replace(
        config,
        model=replace(config.model, trust_remote_code=False),
        data=replace(config.data, cache=None),
    )


def read_runnable_config(
    folder: Path, trust: bool, setting: str = "trust_remote_code"
) -> TrainConfig:
    """The same, to load the run's model. UsageError where that needs code that comes with it and
    the command line does not ``trust`` it; ``setting`` is the one that would.
    """
    recorded = bool(_load_run_config(folder).model.trust_remote_code)
    if recorded and not trust:
        raise _untrusted_code_error(folder, setting)
    config = read_run_config(folder)
    return replace(config, model=replace(config.model, trust_remote_code=recorded and trust))


def _untrusted_code_error(folder: Path, setting: str) -> UsageError:
    return UsageError(
        "the run was trained with model.trust_remote_code=true: loading it executes code that"
        " comes with its model",
        where=str(folder),
        hint=f"If you trust its author, add {setting}=true",
    )


_RESUME_HINT = "A run goes on under its own configuration: leave it out, or start another run"


def _is_at_or_below(name: str, path: str) -> bool:
    return path == name or path.startswith(f"{name}.")


def _value(config: DictConfig, leaf: str, path: str) -> Any:
    """What is at ``path`` below the setting ``leaf`` of any type; None where nothing is."""
    value = OmegaConf.select(config, leaf)
    for name in path.removeprefix(f"{leaf}.").split("."):
        value = value.get(name) if isinstance(value, DictConfig) else None
    return value


def _upgrade_old_settings(content: dict[str, Any]) -> None:
    """Settings that came later, as they were in effect before."""
    data = content.get("data")
    if isinstance(data, dict) and "max_skipped" not in data:
        data["max_skipped"] = 1.0  # any share of the rows could be skipped
        if data.get("quoting") is True:  # the default then, which left .tsv files alone
            data["quoting"] = None


def _drop_unused_plugin_settings(content: dict[str, Any], file: Path) -> None:
    """Leave out what only a package that is not installed knows and the run does not use.

    DataError where the run uses it.
    """
    method = content.get("method")
    if isinstance(method, dict):
        for node in [
            str(node_name)
            for node_name in method
            if node_name not in METHODS and node_name not in RESERVED_METHOD_SETTINGS
        ]:
            if method.get(node) is not None:
                METHODS.raise_missing(node, f"method.{node}", str(file))
            method.pop(node, None)
    for registry in (TASKS, OPTIMIZERS):
        group, _, key = registry.setting.partition(".")
        settings = content.get(group)
        name = settings.get(key) if isinstance(settings, dict) else None
        if isinstance(name, str) and name not in registry:
            registry.raise_missing(name, registry.setting, str(file))


def _load_run_config(folder: Path) -> Any:
    file = folder / "config.yaml"
    if not file.is_file():
        raise usage_error([Problem("resume", f"{folder} holds no run", "Give the folder of a run")])
    recorded = read_plain_yaml(file)
    try:
        if not isinstance(recorded, dict):
            raise ValueError("it holds no settings")
        recorded = rename_settings(settings_tree("train"), recorded)
        _upgrade_old_settings(recorded)
        _drop_unused_plugin_settings(recorded, file)
        run_config = OmegaConf.merge(OmegaConf.structured(TrainConfig), recorded)
        assert isinstance(run_config, DictConfig)
        OmegaConf.to_object(run_config)  # what must be given is there
    except (OmegaConfBaseException, ValueError, TypeError, RecursionError) as error:
        first_line = str(error).strip().split("\n")[0]
        raise DataError(
            f"cannot be read ({first_line})", where=str(file), hint="Was it edited or cut short?"
        ) from error
    # It was held to the rules before it was written; whoever edited it since was not.
    content = to_plain_dict(run_config)
    content["resume"] = str(folder)  # as of a run that goes on: its files may have moved since
    for problem in validate_config("train", content):
        raise DataError(
            f"{problem.where} {problem.what}",
            where=str(file),
            hint=problem.hint or "Was it edited?",
        )
    return run_config
