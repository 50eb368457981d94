"""What the rows of a task consist of: one form a file, found by the task's name.

form_of(config, labelled)     the form of the rows that ``config`` describes

A task without a file here has rows of the usual form: one or two texts and a label.
"""

from __future__ import annotations

import importlib
import pkgutil

from bertft.config.data import DataConfig
from bertft.data.forms.form import RowForm

__all__ = ["RowForm", "form_of"]

_USUAL = "texts"


def form_of(config: DataConfig, labelled: bool = True) -> RowForm:
    """``labelled`` False: rows to answer. UsageError where ``config`` asks for what cannot be."""
    names = {module.name for module in pkgutil.iter_modules(__path__)}
    name = config.task if config.task in names else _USUAL
    return importlib.import_module(f"{__name__}.{name}").Form(config, labelled)
