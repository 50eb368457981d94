"""``data.metric=package.module:function``: a metric that is a Python function of labels and scores.

The function is called as ``function(labels, scores)`` on a whole split and returns a number, as the
metrics of scikit-learn do. ``BaseTask.metric_inputs`` defines the arrays.

Importing a module executes its code. Only ``load_metric_function`` imports one. train and eval call
it, and only for a name on their command line (``config.compose``, ``cli.commands.eval_run``).
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from bertft.errors import UsageError
from bertft.utils.messages import closest_name, first_line

__all__ = ["MetricFunction", "load_metric_function"]


@dataclass(frozen=True)
class MetricFunction:
    """A function with its name in ``data.metric``."""

    name: str
    function: Callable[[np.ndarray, np.ndarray], Any]

    def __call__(self, labels: np.ndarray, scores: np.ndarray) -> float:
        """The value for a split. UsageError if the function raises or does not return a number."""
        arrays = f"labels {_describe(labels)} and scores {_describe(scores)}"
        try:
            value = self.function(labels, scores)
        except Exception as error:
            raise self._error(
                f"the function raises {type(error).__name__}: {first_line(error)}",
                f"It is called with {arrays}. Write a function that accepts them",
            ) from error
        if isinstance(value, np.ndarray) and value.ndim == 0:
            value = value[()]
        if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
            raise self._error(
                f"the function returns {_describe(value)}, not a number",
                f"It is called with {arrays} and must return one number",
            )
        return float(value)

    def _error(self, what: str, hint: str) -> UsageError:
        return UsageError(what, where=f"data.metric={self.name}", hint=hint)


def load_metric_function(name: str) -> MetricFunction:
    """Import ``package.module:function``. The current folder is searched last.

    Raises:
        UsageError: the module cannot be imported, or has no such function.
    """
    where = f"data.metric={name}"
    module_name, _, attribute = name.partition(":")
    folder = str(Path.cwd())
    is_new_folder = folder not in sys.path
    if is_new_folder:
        sys.path.append(folder)
    try:
        module = importlib.import_module(module_name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a module can raise anything, also SystemExit
        raise UsageError(
            f"the module {module_name} cannot be imported ({type(error).__name__}:"
            f" {first_line(error)})",
            where=where,
            hint="Install its package, or run bertft in the folder that contains it",
        ) from error
    finally:
        if is_new_folder:
            sys.path.remove(folder)
    function = getattr(module, attribute, None)
    if not callable(function):
        names = [key for key, value in vars(module).items() if callable(value)]
        closest = closest_name(attribute, names)
        raise UsageError(
            f"the module {module_name} has no function {attribute}",
            where=where,
            hint=f"Did you mean {module_name}:{closest}?"
            if closest
            else "Set data.metric=<package.module>:<function>",
        )
    return MetricFunction(name, function)


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {list(value.shape)}"
    return f"a {type(value).__name__}"
