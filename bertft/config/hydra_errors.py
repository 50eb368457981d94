"""Errors of Hydra, OmegaConf and YAML as a ``Problem``."""

from __future__ import annotations

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

from bertft.utils.messages import Problem, display_path, first_line, suggest

__all__ = [
    "HYDRA_ERRORS",
    "missing_hydra_plugin",
    "to_problem",
]


_SWEEP_EXTRA = 'pip install "bertft[sweep]"'
# (group, choice) → the package of the plugin and the command that installs it.
_HYDRA_PLUGINS = {
    ("hydra/launcher", "joblib"): ("hydra-joblib-launcher", _SWEEP_EXTRA),
    ("hydra/launcher", "submitit_local"): ("hydra-submitit-launcher", _SWEEP_EXTRA),
    ("hydra/launcher", "submitit_slurm"): ("hydra-submitit-launcher", _SWEEP_EXTRA),
    ("hydra/launcher", "ray"): ("hydra-ray-launcher", "pip install hydra-ray-launcher"),
    ("hydra/sweeper", "optuna"): ("hydra-optuna-sweeper", "pip install hydra-optuna-sweeper"),
}


def missing_hydra_plugin(group: str, name: str) -> Problem | None:
    """Why ``group=name``, a plugin of Hydra, is unknown; None if it is not a known plugin."""
    if (group, name) not in _HYDRA_PLUGINS:
        return None
    package, install_command = _HYDRA_PLUGINS[group, name]
    try:
        installed = version(package)
    except PackageNotFoundError:
        return Problem(
            group,
            f"{name} needs the package {package}, which is not installed",
            f"Install it with {install_command}",
        )
    return Problem(
        group,
        f"{name} is in {package} {installed}, which cannot be imported",
        f"python -c 'import hydra_plugins.{package.replace('-', '_')}' shows the error",
    )


HYDRA_ERRORS = (HydraException, OmegaConfBaseException, yaml.YAMLError)


def to_problem(error: BaseException) -> Problem:
    """The problem that ``error``, one of ``HYDRA_ERRORS``, reports."""
    if isinstance(error, OverrideParseException):
        return Problem(
            error.override,
            "cannot be parsed",
            "Quote the value twice, for the shell and for Hydra: \"key='value'\"",
        )
    if isinstance(error, MissingConfigException):
        return _unknown_preset(error)
    if isinstance(error, SearchPathException):
        return Problem("--config-dir", first_line(error), "Set it to a folder of YAML files")
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark
        where = f"{display_path(mark.name)}:{mark.line + 1}" if mark else "YAML"
        return Problem(where, f"is not valid YAML ({error.problem})", "Check the indentation")
    cause: Any = error.__cause__ or error.__context__
    if isinstance(error, ConfigCompositionException) and isinstance(cause, OmegaConfBaseException):
        return _omegaconf_problem(cause)
    if isinstance(error, OmegaConfBaseException):
        return _omegaconf_problem(error)
    return Problem("", first_line(error))


def _unknown_preset(error: MissingConfigException) -> Problem:
    group, _, name = (error.missing_cfg_file or "").rpartition("/")
    if not group:
        return Problem(name, "unknown configuration", first_line(error))
    plugin = missing_hydra_plugin(group, name)
    if plugin is not None:
        return plugin
    hint = suggest(name, error.options or ())
    line = first_line(error)
    file = line.split("'")[1] if line.startswith("In '") else ""
    # If a preset of a group selects the unknown preset, the message names its file.
    return Problem(file if "/" in file else group, f"there is no preset {group}={name}", hint)


def _omegaconf_problem(error: OmegaConfBaseException) -> Problem:
    key = str(error.full_key or error.key or "")
    parent = error.parent_node
    if isinstance(error, (ConfigKeyError, ConfigAttributeError)) and isinstance(parent, DictConfig):
        name = str(error.key)
        return Problem(key, "unknown setting", suggest(name, [str(sibling) for sibling in parent]))
    if isinstance(error, InterpolationResolutionError):
        return Problem(
            key,
            f"the interpolation cannot be resolved ({first_line(error)})",
            "Check the name in ${...}",
        )
    return Problem(key, first_line(error))
