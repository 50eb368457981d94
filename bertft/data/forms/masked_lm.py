"""Rows of text without labels: a line of a .txt file, or a column of any other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from bertft.config.data import DataConfig
from bertft.data.bad_rows import BadRows
from bertft.data.cells import text
from bertft.data.columns import Asked, text_names
from bertft.data.forms.form import Record, RowForm
from bertft.data.text_files import open_text, text_lines
from bertft.errors import UsageError

__all__ = ["Form"]


class Form(RowForm):
    """Column ``text``. data.label is not looked at."""

    texts = ("text",)
    gold = ()

    def __init__(self, config: DataConfig, labelled: bool) -> None:
        names = text_names(config, ("text",))
        if len(names) != 1:
            raise UsageError(
                f"{len(names)} columns, where the text is in one", where="data.text",
                hint="Name that one",
            )  # fmt: skip
        self.columns = Asked(names, ())
        self.schema = [("text", pa.large_string())]
        if config.separator is None:
            self.readers = {".txt": _read_lines}

    def parse(self, fields: Sequence[Any], split: str) -> list[Any]:
        return [text(fields[0])]

    def balance(self, table: pa.Table) -> dict[str, float]:
        return {}


def _read_lines(path: Path, columns: Asked, config: DataConfig, bad: BadRows) -> Iterator[Record]:
    """A text a line; blank lines are no rows."""
    with open_text(path, config.encoding, "\n") as file:
        for number, line in enumerate(text_lines(file, bad, config.encoding), start=1):
            if not line.strip():
                bad.count_blank()
            else:
                bad.count_row()
                yield number, [line.rstrip("\r\n")]
