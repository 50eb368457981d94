"""Sentences of CoNLL files: one word per line with its columns, a blank line after each sentence.

    -DOCSTART- -X- O O      a line of its own that marks the start of a document: not a word
    # text = …              a comment: it precedes a sentence and has not the file's columns
    EU NNP B-ORG            a word and its columns; ``data.text`` and ``data.label`` choose them

Columns are separated by tabs where the first word's line has one, else by runs of spaces and tabs.
No other white space separates: U+3000 can be a word and U+00A0 part of one. In .conllu
the lines numbered 1-2 (several words, which follow) and 1.1 (no word of the text) are left out.
A record is (line, [words, tags]): the line of the first word; the others are on the lines below.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from bertft.config.data import DataConfig
from bertft.data.bad_rows import BadRows, Fault
from bertft.data.columns import Asked, find, text_names
from bertft.data.separated import Record, named_separator
from bertft.data.text_files import open_text, text_lines
from bertft.errors import DataError

__all__ = ["ENDINGS", "WORDS", "Stacked", "read_conll"]

ENDINGS = (
    ".conll", ".conllu", ".conll2003", ".conll03", ".tsv", ".tab", ".txt", ".bio", ".iob", ".iob1",
    ".iob2", ".bioes", ".iobes", ".bilou", ".bmes", ".bmeso", ".ner", ".tags", ".train", ".dev",
    ".valid", ".test", ".testa", ".testb", ".annotated",
)  # fmt: skip
WORDS = ("text", "words", "tokens")  # what the words are called where columns have names
_TAGS = "label"
_DOCUMENT = "-DOCSTART-"
_WIDTH = "wrong number of columns"
_NUMBERS = 2  # words that may all be numbers by chance
_LONGEST = 1_000  # words per sentence, on average: more, and the blank lines are missing

_SPACES = re.compile("[ \t]+")
_COMMENT = re.compile(r"#\s*(?:id\s|[\w.-]+\s*=)")  # has the file's columns by chance only
_NO_WORD = re.compile(r"[0-9]+[-.][0-9]+\t")  # in CoNLL-U
_JSON = re.compile(r'\s*\[?\s*\{\s*"(?:[^"\\]|\\.)*"\s*:|\s*\[\s*\[?\s*"(?:[^"\\]|\\.)*"\s*[],]')
_MARKUP = re.compile(r"\s*<(?:\?xml|!doctype|html)\b", re.IGNORECASE)
_SAMPLE = 4_096  # characters that are looked at

Word = tuple[int, list[str]]  # its line, its columns
Lines = list[tuple[int, str]]


class Stacked(list[str]):
    """Values each of which is on the line below the one before."""


def read_conll(path: Path, columns: Asked, config: DataConfig, bad: BadRows) -> Iterator[Record]:
    """The columns of each sentence; one with a line of another width goes to ``bad``.

    With data.header the first line names the columns. Raises DataError for an empty file, a column
    that does not exist, and content that is not CoNLL.
    """
    encoding, source = config.encoding, bad.source
    named = named_separator(config.separator)
    separator = None if named == " " else named
    width = words = 0
    numbered = True  # as long as each word is its number in the sentence
    before: list[Lines] = []  # blocks of lines that may all be comments
    with open_text(path, encoding, "\n") as file:
        for block in _blocks(file, encoding, bad):
            if path.suffix.lower() == ".conllu":
                block = _without_others(block, bad)
            before.append(block)
            if not width:
                _check_text(block, source)
                if all(text.startswith("#") for _, text in block):
                    continue
                separator = separator or _separator(block)
                names = _header(block, separator, bad) if config.header else None
                width = len(names or _fields(_first(block), separator))
                # Rows to predict ask for their words by name; the run's position holds for CoNLL.
                named_first = text_names(config, (0,))[0]
                default = named_first if isinstance(named_first, int) else 0
                places = _places(columns, names, width, source, block, default)
                _check_words(block, separator, places, source)
            for lines in before:
                sentence = _words(lines, separator, width, bad)
                words += len(sentence)
                if sentence:
                    cells = [Stacked(fields[place] for _, fields in sentence) for place in places]
                    numbered = numbered and _are_numbers(cells[0])
                    yield sentence[0][0], list(cells)
            before = []
    if not width:
        raise DataError("the file is empty", where=source)
    if numbered and width > 1 and words > _NUMBERS:
        raise DataError(
            f"the words are the numbers 1, 2, 3, …: column {places[0]} numbers the words",
            where=source, hint=f"Name the column of the words: data.text={places[0] + 1}",
        )  # fmt: skip
    _check_whole(bad.read, words, width, bool(columns.label), bad)


def _places(
    columns: Asked, names: list[str] | None, width: int, source: str, lines: Lines, default: int
) -> list[int]:
    """Where the columns are; without names the words are in column ``default``, the tags last."""
    known = names or []
    text = tuple(default if name in WORDS and name not in known else name for name in columns.text)
    label = tuple(-1 if name == _TAGS and name not in known else name for name in columns.label)
    found = find(Asked(text, label), names, width, source)
    places = [place for place in found if place is not None]
    if label and places[0] == places[1]:
        mark = next((each for each in ",;|" if lines and each in _first(lines)), None)
        raise DataError(
            "the line of a word has 1 column, but a word and its tag are two" if width == 1
            else f"words and tags are both in column {places[0]}",
            where=source,
            hint=f"Are the columns separated by {mark!r}? Then set 'data.separator={mark}'"
            if width == 1 and mark else "Set data.text and data.label to two columns"
            if width > 1 else "CoNLL has one word per line, with its tag after a tab or a space",
        )  # fmt: skip
    return places


def _blocks(file: TextIO, encoding: str, bad: BadRows) -> Iterator[Lines]:
    """Lines between blank ones and beginnings of documents, numbered."""
    block: Lines = []
    for number, line in enumerate(text_lines(file, bad, encoding), start=1):
        text = line.rstrip("\r\n")
        document = text.startswith(_DOCUMENT)
        if text.strip(" \t") and not document:
            block.append((number, text))
            continue
        if document:
            bad.other_lines["start of a document"] += 1
        else:
            bad.count_blank()
        if block:
            yield block
            block = []
    if block:
        yield block


def _without_others(lines: Lines, bad: BadRows) -> Lines:
    """The lines of CoNLL-U that are words or comments."""
    others = [_NO_WORD.match(text) is not None for _, text in lines]
    if any(others):
        bad.other_lines["several words or none"] += sum(others)
    return [line for line, other in zip(lines, others, strict=True) if not other]


def _are_numbers(words: Sequence[str]) -> bool:
    return all(word == str(number) for number, word in enumerate(words, start=1))


def _first(lines: Lines) -> str:
    """The first line that may be a word's."""
    return next(text for _, text in lines if not text.startswith("#"))


def _header(lines: Lines, separator: str | None, bad: BadRows) -> list[str]:
    """The names of the columns, taken from ``lines``."""
    names = _first(lines)
    place = next(place for place, (_, text) in enumerate(lines) if text == names)
    bad.other_lines["header"] += place + 1
    del lines[: place + 1]
    return _fields(names, separator)


def _separator(lines: Lines) -> str | None:
    return "\t" if "\t" in _first(lines) else None


def _fields(text: str, separator: str | None) -> list[str]:
    if separator is None:
        return _SPACES.split(text.strip(" \t"))
    return [field.strip(" ") for field in text.split(separator)]


def _words(lines: Lines, separator: str | None, width: int, bad: BadRows) -> Sequence[Word]:
    """The words of a sentence, none if one of its lines is no word."""
    words: list[Word] = []
    comments, faulty = 0, False
    for number, text in lines:
        columns = separator is not None and text.count(separator) == width - 1 > 0
        if not words and not columns and _COMMENT.match(text):
            comments += 1
            continue
        fields = _fields(text, separator)
        if len(fields) == width and all(fields):
            words.append((number, fields))
        elif words or not text.startswith("#"):
            bad.add(number, _fault(fields, width))
            words, faulty = [], True
            break
        else:
            comments += 1
    if comments:
        bad.other_lines["comment"] += comments
    if words or faulty:
        bad.count_row()
        bad.other_lines["further word"] += len(lines) - comments - 1
    return words


def _fault(fields: list[str], width: int) -> Fault:
    if len(fields) == width:
        return Fault("empty column", f"column {fields.index('')} is empty")
    count = "1 column" if len(fields) == 1 else f"{len(fields)} columns"
    return Fault(_WIDTH, f"{count} where {width} are expected")


def _check_text(lines: Lines, source: str) -> None:
    """DataError where the first lines are of another format."""
    text = "\n".join(text for _, text in lines[:100])[:_SAMPLE]
    if _JSON.match(text):
        raise _not_conll("JSON", source, "Name a file of JSON lines with the ending .jsonl")
    if _MARKUP.match(text):
        raise _not_conll("XML or HTML", source)


def _check_words(lines: Lines, separator: str | None, places: list[int], source: str) -> None:
    """DataError where a line has a sentence and its tags."""
    for _, text in lines:
        fields = _fields(text, separator)
        if max(places) < len(fields) and len(places) == 2:
            words, tags = (len(fields[place].split(" ")) for place in places)
            if words == tags > 1:
                raise DataError(
                    "each line has a sentence and its tags, where CoNLL has a word and its tag",
                    where=source,
                    hint="Rename the file to end in .csv and set 'data.separator=\\t'",
                )


def _not_conll(kind: str, source: str, hint: str = "") -> DataError:
    expected = "Expected CoNLL: one word per line with its tag, a blank line after each sentence"
    return DataError(
        f"looks like {kind}, not CoNLL", where=source,
        hint=f"{hint}. {expected}" if hint else expected,
    )  # fmt: skip


def _check_whole(sentences: int, words: int, width: int, tagged: bool, bad: BadRows) -> None:
    """DataError where most sentences are of another width, or none seems to end."""
    wrong = bad.counts[_WIDTH]
    if 2 * wrong > sentences and sentences > 2:
        raise DataError(
            f"not CoNLL: {wrong:,} of {sentences:,} sentences have lines with another number of"
            f" columns than the first line ({width})",
            where=bad.source, hint="Check the format, or set data.separator",
        )  # fmt: skip
    if tagged and words > _LONGEST * max(1, sentences):
        raise DataError(
            f"{words:,} words in {sentences:,} sentences: the blank lines between sentences"
            " are missing",
            where=bad.source, hint="Put a blank line after each sentence",
        )  # fmt: skip
