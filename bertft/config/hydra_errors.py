"""What Hydra, OmegaConf and YAML raise → a ``Problem`` in the project's own form."""

from __future__ import annotations

import os
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

from bertft.config.messages import Problem, suggestion
from bertft.config.plugins import missing_plugin

__all__ = ["RENDERED", "problem_of", "relative"]

RENDERED = (HydraException, OmegaConfBaseException, yaml.YAMLError)


def problem_of(error: BaseException) -> Problem:
    """The mistake behind ``error``, one of ``RENDERED``."""
    if isinstance(error, OverrideParseException):
        return Problem(
            error.override, "cannot be read",
            "Quote its value for the shell and again within: \"key='value'\"",
        )  # fmt: skip
    if isinstance(error, MissingConfigException):
        return _no_preset(error)
    if isinstance(error, SearchPathException):
        return Problem("--config-dir", _first_line(error), "Give a folder of YAML files")
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark
        where = f"{relative(mark.name)}:{mark.line + 1}" if mark else "YAML"
        return Problem(where, f"is no valid YAML ({error.problem})", "Look at the indentation")
    cause: Any = error.__cause__ or error.__context__
    if isinstance(error, ConfigCompositionException) and isinstance(cause, OmegaConfBaseException):
        return _of_omegaconf(cause)
    if isinstance(error, OmegaConfBaseException):
        return _of_omegaconf(error)
    return Problem("", _first_line(error))


def relative(path: str) -> str:
    """``path`` as one would type it here: relative if it lies below, else as it is."""
    path = path.removeprefix("file://")
    below = os.path.isabs(path) and not os.path.relpath(path).startswith("..")
    return os.path.relpath(path) if below else path


def _no_preset(error: MissingConfigException) -> Problem:
    group, _, name = (error.missing_cfg_file or "").rpartition("/")
    if not group:
        return Problem(name, "there is no such configuration", _first_line(error))
    plugin = missing_plugin(group, name)
    if plugin is not None:
        return plugin
    hint = suggestion(name, error.options or ())
    first = str(error).strip().splitlines()[0]
    file = first.split("'")[1] if first.startswith("In '") else ""
    # A file of a group that asks for a preset is named; the root only passes on what others ask.
    return Problem(file if "/" in file else group, f"there is no {group}={name}", hint)


def _of_omegaconf(error: OmegaConfBaseException) -> Problem:
    key = str(error.full_key or error.key or "")
    parent = error.parent_node
    if isinstance(error, (ConfigKeyError, ConfigAttributeError)) and isinstance(parent, DictConfig):
        name = str(error.key)
        return Problem(key, "unknown setting", suggestion(name, [str(each) for each in parent]))
    if isinstance(error, InterpolationResolutionError):
        return Problem(key, f"its ${{...}} cannot be resolved ({_first_line(error)})")
    return Problem(key, _first_line(error))


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
