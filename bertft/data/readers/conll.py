"""CoNLL files: one word per line with its columns, a blank line after each sentence.

    -DOCSTART- -X- O O      marks the start of a document; not a word
    # text = …              a comment before a sentence, without the columns of the file
    EU NNP B-ORG            a word and its columns, selected by ``data.text`` and ``data.label``

Columns are separated by tabs if the line of the first word has one, else by runs of spaces and
tabs. Other white space is not a separator: U+3000 can be a word and U+00A0 part of one. In .conllu
files, lines numbered 1-2 (a multiword token) and 1.1 (an empty node) are left out.
A record is (line of the first word, [words, tags]); the other words are on the lines below.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from bertft.config.data import DataConfig
from bertft.config.data_files import file_extension
from bertft.data.guess_columns import format_column, propose_settings
from bertft.data.readers.separators import resolve_separator
from bertft.data.readers.text_files import iter_lines, open_text
from bertft.data.rows import BadRows, RowError
from bertft.data.schema import ColumnSpec, Record, find_columns, text_columns
from bertft.errors import DataError

__all__ = ["MAX_MEAN_WORDS", "WORD_COLUMNS", "LineValues", "read_conll"]

WORD_COLUMNS = ("text", "words", "tokens")  # names of the column of words
_TAG_COLUMN = "label"
_DOCUMENT_START = "-DOCSTART-"
_WRONG_WIDTH = "wrong number of columns"
_MIN_NUMBERED_WORDS = 2  # so few words may be numbers by chance
MAX_MEAN_WORDS = 1_000  # words per sentence; with more, blank lines are missing

_SPACES = re.compile("[ \t]+")
_COMMENT = re.compile(r"#\s*(?:id\s|[\w.-]+\s*=)")  # matches lines with columns only by chance
_NOT_A_WORD = re.compile(r"[0-9]+[-.][0-9]+\t")  # in CoNLL-U
_JSON = re.compile(r'\s*\[?\s*\{\s*"(?:[^"\\]|\\.)*"\s*:|\s*\[\s*\[?\s*"(?:[^"\\]|\\.)*"\s*[],]')
_MARKUP = re.compile(r"\s*<(?:\?xml|!doctype|html)\b", re.IGNORECASE)
_SAMPLE_LINES = 100
_SAMPLE_CHARACTERS = 4_096  # characters that format detection reads

TokenLine = tuple[int, list[str]]  # line number, columns
NumberedLines = list[tuple[int, str]]


class LineValues(list[str]):
    """Values on consecutive lines of a file."""


def read_conll(
    path: Path, columns: ColumnSpec, config: DataConfig, bad: BadRows
) -> Iterator[Record]:
    """The columns of each sentence; one with a line of another width is added to ``bad``.

    With data.header, the first line has the column names. Raises DataError for an empty file, a
    column that does not exist, and content that is not CoNLL.
    """
    encoding, source = config.encoding, bad.source
    configured = resolve_separator(config.separator)
    separator = None if configured == " " else configured
    width = words = 0
    are_words_numbers = True  # whether each word so far is its number in the sentence
    pending_blocks: list[NumberedLines] = []  # blocks of lines that may all be comments
    with open_text(path, encoding, "\n") as file:
        for block in _iter_blocks(file, encoding, bad):
            if file_extension(path) == ".conllu":
                block = _drop_multiword_lines(block, bad)
            pending_blocks.append(block)
            if not width:
                _check_not_other_format(block, source)
                if all(text.startswith("#") for _, text in block):
                    continue
                separator = separator or _detect_separator(block)
                names = _take_header(block, separator, bad) if config.header else None
                if names is None:
                    _check_no_sentence_column(block, separator, columns, source)
                width = len(names or _split_fields(_first_word_line(block), separator))
                # Rows to predict name their columns; CoNLL files use the configured position.
                first_text_column = text_columns(config, (0,))[0]
                default = first_text_column if isinstance(first_text_column, int) else 0
                positions = _column_positions(columns, names, width, source, block, default)
                _check_one_word_per_line(block, separator, positions, source)
            for lines in pending_blocks:
                sentence = _parse_sentence(lines, separator, width, bad)
                words += len(sentence)
                if sentence:
                    column_values = [
                        LineValues(fields[position] for _, fields in sentence)
                        for position in positions
                    ]
                    are_words_numbers = are_words_numbers and _are_numbers(column_values[0])
                    yield sentence[0][0], list(column_values)
            pending_blocks = []
    if not width:
        raise DataError("the file is empty", where=source)
    if are_words_numbers and width > 1 and words > _MIN_NUMBERED_WORDS:
        raise DataError(
            f"the words are the numbers 1, 2, 3, …: column {positions[0]} numbers the words",
            where=source,
            hint=f"Set data.text to the column of the words, such as data.text={positions[0] + 1}",
        )
    _check_sentences(bad.read, words, width, bool(columns.label), bad)


def _column_positions(
    columns: ColumnSpec,
    names: list[str] | None,
    width: int,
    source: str,
    lines: NumberedLines,
    default: int,
) -> list[int]:
    """Positions of the columns; without names the words are in ``default``, the tags last."""
    known = names or []
    text = tuple(
        default if name in WORD_COLUMNS and name not in known else name for name in columns.text
    )
    label = tuple(
        -1 if name == _TAG_COLUMN and name not in known else name for name in columns.label
    )
    column_indices = find_columns(ColumnSpec(text, label), names, width, source)
    positions = [position for position in column_indices if position is not None]
    if label and positions[0] == positions[1]:
        other_separator = next(
            (candidate for candidate in ",;|" if lines and candidate in _first_word_line(lines)),
            None,
        )
        if width > 1:
            problem = f"words and tags are both in column {positions[0]}"
            hint = "Set data.text and data.label to different columns"
        else:
            problem = "the lines have 1 column, but a word and its tag need two"
            hint = "CoNLL has one word per line, with its tag after a tab or a space"
            if other_separator is not None:
                hint = (
                    f"Are the columns separated by {other_separator!r}? Then set"
                    f" 'data.separator={other_separator}'"
                )
        raise DataError(problem, where=source, hint=hint)
    return positions


def _iter_blocks(file: TextIO, encoding: str, bad: BadRows) -> Iterator[NumberedLines]:
    """Numbered lines between blank lines and document starts."""
    block: NumberedLines = []
    for number, line in enumerate(iter_lines(file, bad, encoding), start=1):
        text = line.rstrip("\r\n")
        starts_document = text.startswith(_DOCUMENT_START)
        if text.strip(" \t") and not starts_document:
            block.append((number, text))
            continue
        if starts_document:
            bad.other_lines["start of a document"] += 1
        else:
            bad.count_blank()
        if block:
            yield block
            block = []
    if block:
        yield block


def _drop_multiword_lines(lines: NumberedLines, bad: BadRows) -> NumberedLines:
    """The lines of a CoNLL-U block that are words or comments."""
    is_other = [_NOT_A_WORD.match(text) is not None for _, text in lines]
    if any(is_other):
        bad.other_lines["several words or none"] += sum(is_other)
    return [line for line, is_other_line in zip(lines, is_other, strict=True) if not is_other_line]


def _are_numbers(words: Sequence[str]) -> bool:
    return all(word == str(number) for number, word in enumerate(words, start=1))


def _first_word_line(lines: NumberedLines) -> str:
    """The first line that is not a comment."""
    return next(text for _, text in lines if not text.startswith("#"))


def _take_header(lines: NumberedLines, separator: str | None, bad: BadRows) -> list[str]:
    """The names of the columns, taken from ``lines``."""
    header = _first_word_line(lines)
    line_index = next(index for index, (_, text) in enumerate(lines) if text == header)
    bad.other_lines["header"] += line_index + 1
    del lines[: line_index + 1]
    return _split_fields(header, separator)


def _detect_separator(lines: NumberedLines) -> str | None:
    return "\t" if "\t" in _first_word_line(lines) else None


def _split_fields(text: str, separator: str | None) -> list[str]:
    if separator is None:
        return _SPACES.split(text.strip(" \t"))
    return [field.strip(" ") for field in text.split(separator)]


def _parse_sentence(
    lines: NumberedLines, separator: str | None, width: int, bad: BadRows
) -> Sequence[TokenLine]:
    """The words of a sentence; empty if one of its lines is invalid."""
    words: list[TokenLine] = []
    comments, has_error = 0, False
    for number, text in lines:
        has_file_columns = separator is not None and text.count(separator) == width - 1 > 0
        if not words and not has_file_columns and _COMMENT.match(text):
            comments += 1
            continue
        fields = _split_fields(text, separator)
        if len(fields) == width and all(fields):
            words.append((number, fields))
        elif words or not text.startswith("#"):
            bad.add(number, _line_error(fields, width))
            words, has_error = [], True
            break
        else:
            comments += 1
    if comments:
        bad.other_lines["comment"] += comments
    if words or has_error:
        bad.count_row()
        bad.other_lines["further word"] += len(lines) - comments - 1
    return words


def _line_error(fields: list[str], width: int) -> RowError:
    if len(fields) == width:
        return RowError("empty column", f"column {fields.index('')} is empty")
    count = "1 column" if len(fields) == 1 else f"{len(fields)} columns"
    return RowError(_WRONG_WIDTH, f"{count} where {width} are expected")


def _check_not_other_format(lines: NumberedLines, source: str) -> None:
    """Raise DataError if the first lines are JSON, XML or HTML."""
    text = "\n".join(text for _, text in lines[:100])[:_SAMPLE_CHARACTERS]
    if _JSON.match(text):
        raise _not_conll_error("JSON", source, "Rename the file to end in .json or .jsonl")
    if _MARKUP.match(text):
        raise _not_conll_error("XML or HTML", source)


def _check_no_sentence_column(
    lines: NumberedLines, separator: str | None, columns: ColumnSpec, source: str
) -> None:
    """Raise DataError for a table whose header names a column of sentences."""
    rows = [_split_fields(text, separator) for _, text in lines[:_SAMPLE_LINES]]
    rows = [row for row in rows if len(row) == len(rows[0])]
    settings = propose_settings(rows[0], rows[1:], "token_classification")
    if any(setting.startswith("data.sentence=") for setting in settings):
        error = DataError(
            "the file is a table with one word per row, and a column names the sentence",
            where=source,
            hint="Set data.sentence=<column>",
        )
        error.proposed_settings = [
            setting for setting in settings if columns.label or "data.label=" not in setting
        ]
        raise error


def _check_one_word_per_line(
    lines: NumberedLines, separator: str | None, positions: list[int], source: str
) -> None:
    """Raise DataError if a line has a sentence and its tags."""
    for _, text in lines:
        fields = _split_fields(text, separator)
        if max(positions) < len(fields) and len(positions) == 2:
            words, tags = (len(fields[position].split(" ")) for position in positions)
            if words == tags > 1:
                error = DataError(
                    "each line has a sentence and its tags, but CoNLL has a word and its tag",
                    where=source,
                    hint="Set data.format=tsv",
                )
                error.proposed_settings = [
                    "data.format=tsv",
                    *_columns_of_sentences(_split_fields(lines[0][1], separator), positions),
                ]
                raise error


def _columns_of_sentences(first_fields: list[str], positions: list[int]) -> list[str]:
    """data.text and data.label for a table of sentences, whose first line may be a header."""
    names = [first_fields[position] for position in positions]
    if names == ["text", _TAG_COLUMN]:
        return []
    columns: list[str | int] = [*names]
    if any(" " in name or name == "O" for name in names):  # not a header
        columns = [position % len(first_fields) for position in positions]
    text, label = map(format_column, columns)
    return [f"data.text={text}", f"data.label={label}"]


def _not_conll_error(kind: str, source: str, hint: str = "") -> DataError:
    expected = "Expected CoNLL: one word per line with its tag, a blank line after each sentence"
    return DataError(
        f"looks like {kind}, not CoNLL",
        where=source,
        hint=f"{hint}. {expected}" if hint else expected,
    )


def _check_sentences(sentences: int, words: int, width: int, tagged: bool, bad: BadRows) -> None:
    """Raise DataError if most sentences have another width, or blank lines are missing."""
    wrong = bad.counts[_WRONG_WIDTH]
    if 2 * wrong > sentences and sentences > 2:
        raise DataError(
            f"not CoNLL: {wrong:,} of {sentences:,} sentences have lines with a different number of"
            f" columns than the first line ({width})",
            where=bad.source,
            hint="Check the format, or set data.separator",
        )
    if tagged and words > MAX_MEAN_WORDS * max(1, sentences):
        raise DataError(
            f"{words:,} words in {sentences:,} sentences: the blank lines between sentences"
            " are missing",
            where=bad.source,
            hint="Put a blank line after each sentence",
        )
