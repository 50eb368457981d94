"""Rows of text without labels: a line of a .txt file, or a column of any other file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from bertft.config.data import DataConfig
from bertft.data.readers.text_files import read_nonblank_lines
from bertft.data.schema import ColumnSpec, RowSchema, require_text, text_columns
from bertft.errors import UsageError
from bertft.tasks.shared.word_splitting import words_to_text

__all__ = ["MaskedLMRowSchema"]


class MaskedLMRowSchema(RowSchema):
    """Column ``text``. data.label is ignored."""

    text_fields = ("text",)
    label_fields = ()

    def __init__(self, config: DataConfig, labelled: bool) -> None:
        names = text_columns(config, ("text",))
        if len(names) != 1:
            raise UsageError(
                f"expected one column of text, got {len(names)}",
                where="data.text",
                hint="Set data.text=<column>",
            )
        self.columns = ColumnSpec(names, ())
        self.fields = [("text", pa.large_string())]
        self.readers = {"text": read_nonblank_lines}

    def parse(self, fields: Sequence[Any], split: str, ignored: list[str]) -> list[Any]:
        return [require_text(words_to_text(fields[0]))]

    def label_statistics(self, table: pa.Table) -> dict[str, float]:
        return {}
