"""What Hydra, OmegaConf and YAML raise → a ``Problem`` in the project's own form."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import yaml
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
    SearchPathException,
)
from omegaconf import DictConfig
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationResolutionError,
    OmegaConfBaseException,
)

from bertft.utils.messages import Problem, suggest

__all__ = [
    "HYDRA_ERRORS",
    "display_path",
    "missing_hydra_plugin",
    "to_problem",
]


_SWEEP_EXTRA = 'pip install "bertft[sweep]"'
# (group, choice) → the package, and what brings it.
_HYDRA_PLUGINS = {
    ("hydra/launcher", "joblib"): ("hydra-joblib-launcher", _SWEEP_EXTRA),
    ("hydra/launcher", "submitit_local"): ("hydra-submitit-launcher", _SWEEP_EXTRA),
    ("hydra/launcher", "submitit_slurm"): ("hydra-submitit-launcher", _SWEEP_EXTRA),
    ("hydra/launcher", "ray"): ("hydra-ray-launcher", "pip install hydra-ray-launcher"),
    ("hydra/sweeper", "optuna"): ("hydra-optuna-sweeper", "pip install hydra-optuna-sweeper"),
}


def missing_hydra_plugin(group: str, name: str) -> Problem | None:
    """Why Hydra does not know ``group=name``, if that is a plugin; None if it is just a name."""
    if (group, name) not in _HYDRA_PLUGINS:
        return None
    package, install_command = _HYDRA_PLUGINS[group, name]
    try:
        installed = version(package)
    except PackageNotFoundError:
        return Problem(
            group,
            f"{name} needs the package {package}, which is not installed",
            f"It comes with {install_command}",
        )
    return Problem(
        group,
        f"{name} is in {package} {installed}, which cannot be imported here",
        f"Look at python -c 'import hydra_plugins.{package.replace('-', '_')}'",
    )


HYDRA_ERRORS = (HydraException, OmegaConfBaseException, yaml.YAMLError)


def to_problem(error: BaseException) -> Problem:
    """The mistake behind ``error``, one of ``HYDRA_ERRORS``."""
    if isinstance(error, OverrideParseException):
        return Problem(
            error.override,
            "cannot be read",
            "Quote its value for the shell and again within: \"key='value'\"",
        )
    if isinstance(error, MissingConfigException):
        return _unknown_preset(error)
    if isinstance(error, SearchPathException):
        return Problem("--config-dir", _first_line(error), "Give a folder of YAML files")
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark
        where = f"{display_path(mark.name)}:{mark.line + 1}" if mark else "YAML"
        return Problem(where, f"is no valid YAML ({error.problem})", "Look at the indentation")
    cause: Any = error.__cause__ or error.__context__
    if isinstance(error, ConfigCompositionException) and isinstance(cause, OmegaConfBaseException):
        return _omegaconf_problem(cause)
    if isinstance(error, OmegaConfBaseException):
        return _omegaconf_problem(error)
    return Problem("", _first_line(error))


def display_path(path: str) -> str:
    """``path`` as one would type it here: relative if it lies below, else as it is."""
    path = path.removeprefix("file://")
    is_below = os.path.isabs(path) and not os.path.relpath(path).startswith("..")
    return os.path.relpath(path) if is_below else path


def _unknown_preset(error: MissingConfigException) -> Problem:
    group, _, name = (error.missing_cfg_file or "").rpartition("/")
    if not group:
        return Problem(name, "there is no such configuration", _first_line(error))
    plugin = missing_hydra_plugin(group, name)
    if plugin is not None:
        return plugin
    hint = suggest(name, error.options or ())
    first_line = str(error).strip().splitlines()[0]
    file = first_line.split("'")[1] if first_line.startswith("In '") else ""
    # A file of a group that asks for a preset is named; the root only passes on what others ask.
    return Problem(file if "/" in file else group, f"there is no {group}={name}", hint)


def _omegaconf_problem(error: OmegaConfBaseException) -> Problem:
    key = str(error.full_key or error.key or "")
    parent = error.parent_node
    if isinstance(error, (ConfigKeyError, ConfigAttributeError)) and isinstance(parent, DictConfig):
        name = str(error.key)
        return Problem(key, "unknown setting", suggest(name, [str(sibling) for sibling in parent]))
    if isinstance(error, InterpolationResolutionError):
        return Problem(key, f"its ${{...}} cannot be resolved ({_first_line(error)})")
    return Problem(key, _first_line(error))


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
