"""Text files with one text per line and its label in the same line.

fasttext      __label__pos __label__long a fine film     the words with the prefix are labels
label_text    pos a fine film                            the label ends at the first space or tab
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bertft.config.data import DataConfig
from bertft.data.readers.text_files import iter_lines, open_text
from bertft.data.rows import BadRows
from bertft.data.schema import ColumnSpec, Record, find_columns

__all__ = ["is_fasttext", "read_fasttext", "read_label_text"]

_COLUMNS = ("label", "text")
_PREFIX = "__label__"
_FASTTEXT_LABEL = re.compile(rf"(?<!\S){_PREFIX}(\S+)[ \t]*")
_SPACE = re.compile("[ \t]+")


def is_fasttext(head: str) -> bool:
    """Whether a text that begins with ``head`` is in the format of fastText."""
    return head.lstrip().startswith(_PREFIX)


def read_fasttext(
    path: Path, columns: ColumnSpec, config: DataConfig, bad: BadRows
) -> Iterator[Record]:
    """The requested ones of ``label`` and ``text``; several labels are a list."""
    return _read_lines(path, columns, config, bad, _split_fasttext)


def read_label_text(
    path: Path, columns: ColumnSpec, config: DataConfig, bad: BadRows
) -> Iterator[Record]:
    """The requested ones of ``label`` and ``text``, split at the first space or tab."""
    return _read_lines(path, columns, config, bad, _split_label_text)


def _read_lines(
    path: Path,
    columns: ColumnSpec,
    config: DataConfig,
    bad: BadRows,
    split: Callable[[str], tuple[Any, str]],
) -> Iterator[Record]:
    positions = find_columns(columns, _COLUMNS, len(_COLUMNS), bad.source)
    with open_text(path, config.encoding, "\n") as file:
        for number, line in enumerate(iter_lines(file, bad, config.encoding), start=1):
            if not line.strip():
                bad.count_blank()
                continue
            bad.count_row()
            fields = split(line.rstrip("\r\n"))
            yield number, [None if position is None else fields[position] for position in positions]


def _split_fasttext(line: str) -> tuple[Any, str]:
    labels = _FASTTEXT_LABEL.findall(line)
    text = _FASTTEXT_LABEL.sub("", line).strip(" \t")
    return (labels[0] if len(labels) == 1 else labels or None), text


def _split_label_text(line: str) -> tuple[str, str]:
    label, *rest = _SPACE.split(line.lstrip(" \t"), maxsplit=1)
    return label, rest[0] if rest else ""
