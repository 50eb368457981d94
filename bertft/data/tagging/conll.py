"""Sentences of CoNLL files: a word a line, its columns apart by tabs or spaces, a blank line after.

    -DOCSTART- -X- O O      a line of its own that says where a document begins: no word
    # text = …              a comment: it stands before a sentence and has not the file's columns
    EU NNP B-ORG            a word and its columns; ``data.text`` and ``data.label`` choose them

A record is (line, [words, tags]): the line of the first word; the others stand below it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from bertft.config.data import DataConfig
from bertft.data.bad_rows import BadRows, Fault
from bertft.data.columns import Asked, find
from bertft.data.separated import Record
from bertft.data.text_files import open_text, text_lines
from bertft.errors import DataError

__all__ = ["ENDINGS", "WORDS", "Stacked", "read_conll"]

ENDINGS = (".conll", ".tsv", ".tab", ".txt")
WORDS = ("text", "words", "tokens")  # what the words are called where columns have names
_TAGS = "label"
_DOCUMENT = "-DOCSTART-"

Word = tuple[int, list[str]]  # its line, its columns


class Stacked(list[str]):
    """Values of which each stands on the line below the one before."""


def read_conll(path: Path, columns: Asked, config: DataConfig, bad: BadRows) -> Iterator[Record]:
    """The asked columns of each sentence; one with a line of another width goes to ``bad``.

    Without data.separator a tab where the first word's line has one, else white space. Raises
    DataError for an empty file and for a column that is not there.
    """
    columns, encoding = _by_position(columns), config.encoding
    separator = {"\\t": "\t", " ": None}.get(config.separator or " ", config.separator)
    with open_text(path, encoding, "\n") as file:
        width = 0
        for lines in _blocks(file, bad.source, encoding):
            if not width:
                separator = separator or _separator(lines)
                width = len(_fields(_first(lines), separator))
                found = find(columns, None, width, bad.source)
                places = [place for place in found if place is not None]
            words = _words(lines, separator, width, bad)
            if words:
                cells = [Stacked(fields[place] for _, fields in words) for place in places]
                yield words[0][0], list(cells)
        if not width:
            raise DataError("the file is empty", where=bad.source)


def _by_position(columns: Asked) -> Asked:
    """The columns of a file without a header: unless told otherwise the first and the last."""
    text = tuple(0 if name in WORDS else name for name in columns.text)
    return Asked(text, tuple(-1 if name == _TAGS else name for name in columns.label))


Lines = list[tuple[int, str]]


def _blocks(file: TextIO, source: str, encoding: str) -> Iterator[Lines]:
    """Lines between blank ones and beginnings of documents, numbered."""
    block: Lines = []
    for number, line in enumerate(text_lines(file, source, encoding), start=1):
        text = line.rstrip("\r\n")
        if text.strip() and not text.startswith(_DOCUMENT):
            block.append((number, text))
        elif block:
            yield block
            block = []
    if block:
        yield block


def _first(lines: Lines) -> str:
    """The first line that may be a word's."""
    return next((text for _, text in lines if not text.startswith("#")), lines[-1][1])


def _separator(lines: Lines) -> str | None:
    return "\t" if "\t" in _first(lines) else None


def _fields(text: str, separator: str | None) -> list[str]:
    return [field.strip() for field in text.split(separator)]


def _words(lines: Lines, separator: str | None, width: int, bad: BadRows) -> Sequence[Word]:
    """The words of a sentence, none if one of its lines is no word."""
    words: list[Word] = []
    for number, text in lines:
        fields = _fields(text, separator)
        if len(fields) == width and all(fields):
            words.append((number, fields))
        elif words or not text.startswith("#"):
            bad.add(number, _fault(fields, width))
            return []
    return words


def _fault(fields: list[str], width: int) -> Fault:
    if len(fields) == width:
        return Fault("empty column", f"column {fields.index('')} is empty")
    count = "1 column" if len(fields) == 1 else f"{len(fields)} columns"
    return Fault("wrong number of columns", f"{count} where {width} are expected")
