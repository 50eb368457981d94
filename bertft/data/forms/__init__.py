"""What the rows of a task consist of: the class that its description names as ``rows``.

form_of(config, labelled)     the form of the rows that ``config`` describes
"""

from __future__ import annotations

from bertft.config.data import DataConfig
from bertft.config.registry import TASKS
from bertft.data.forms.form import RowSchema

__all__ = ["RowSchema", "build_row_schema"]


def build_row_schema(config: DataConfig, labelled: bool = True) -> RowSchema:
    """``labelled`` False: rows to answer. UsageError where ``config`` asks for what cannot be."""
    schema: RowSchema = TASKS.implementation(config.task, "rows")(config, labelled)
    return schema
