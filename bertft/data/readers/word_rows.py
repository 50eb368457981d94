"""Tables with one word per row, read as one record per sentence.

    Sentence #,Word,Tag          data.sentence=Sentence # names the column of the sentence. An empty
    Sentence: 1,EU,B-ORG         value continues the sentence of the row above.
    ,rejects,O
    Sentence: 2,Peter,B-PER

A record is (line of the first word, [words, tags, ...]); other requested columns have the value of
the first word. If a row cannot be read, its sentence is invalid. The row may also have been the
first of the next sentence, so that one is invalid too if it begins directly below.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bertft.config.data import DataConfig
from bertft.config.registry import READERS
from bertft.data.labels import to_class_name
from bertft.data.readers.conll import MAX_MEAN_WORDS, LineValues
from bertft.data.rows import BadRows, RowError
from bertft.data.schema import ColumnName, ColumnSpec, ReadFunction, Record
from bertft.errors import DataError
from bertft.utils.messages import describe_value, quote_value

__all__ = ["group_words"]

_MIN_SENTENCES, _MAX_SINGLE_WORD_SHARE = 5, 0.9
_REPEATED_HINT = (
    "Sort the rows by sentence. If the sentences of each document are numbered from 1, set"
    " data.sentence=[<document>,<sentence>]"
)


def group_words(format_name: str, sentence: Sequence[ColumnName]) -> ReadFunction:
    """The reader of tables in a format, with the words of a sentence in one record.

    Rows to predict are not grouped if the file has no such columns.

    Args:
        format_name: the name of a registered reader.
        sentence: the columns whose values together identify a sentence.
    """

    def read_sentences(
        path: Path, columns: ColumnSpec, config: DataConfig, bad: BadRows
    ) -> Iterator[Record]:
        read: ReadFunction = READERS.implementation(format_name, "read")
        words = _WordRows(bad.source, bad.unit)
        word_columns = _WordColumns(
            (*columns.text, *sentence),
            columns.label,
            columns.optional,
            requested=columns,
            sentence=tuple(sentence),
        )
        records = read(path, word_columns, config, words)
        yield from _Grouping(word_columns, words, bad).read(records)

    return read_sentences


@dataclass(frozen=True)
class _WordColumns(ColumnSpec):
    """The columns of a word; those of its sentence come after its text."""

    requested: ColumnSpec = field(default_factory=lambda: ColumnSpec((), ()))
    sentence: tuple[ColumnName, ...] = ()

    def resolve_alternatives(self, names: Sequence[str] | None) -> ColumnSpec:
        requested = self.requested.resolve_alternatives(names)
        named = [name for name in self.sentence if isinstance(name, str)]
        if names is not None and not requested.label and not set(named) <= set(names):
            return requested  # a file of texts to predict
        text = (*requested.text, *self.sentence)
        return replace(self, text=text, label=requested.label, requested=requested)

    def setting_of_column(self, index: int) -> str:
        is_sentence = len(self.requested.text) <= index < len(self.text)
        return "data.sentence" if is_sentence else super().setting_of_column(index)


@dataclass
class _WordRows(BadRows):
    """The accounting of the rows of words, with the errors since the last word."""

    errors: list[tuple[int, RowError]] = field(default_factory=list)

    def add(self, line: int, error: RowError) -> None:
        super().add(line, error)
        self.errors.append((line, error))


@dataclass
class _Sentence:
    """The words of a sentence; ``error``: the first reason why it is invalid, with its line."""

    key: tuple[str, ...]
    lines: list[int] = field(default_factory=list)
    rows: list[list[Any]] = field(default_factory=list)
    error: tuple[int, RowError] | None = None


class _Grouping:
    """Groups consecutive words and adds their accounting to that of the sentences, ``bad``."""

    def __init__(self, columns: _WordColumns, words: _WordRows, bad: BadRows) -> None:
        self._columns, self._words, self._bad = columns, words, bad
        self._seen: set[tuple[str, ...]] = set()
        self._sentences = self._word_count = self._single_words = 0

    def read(self, records: Iterator[Record]) -> Iterator[Record]:
        """The records of the sentences. DataError if the column is not one of sentences."""
        sentence: _Sentence | None = None
        for line, fields in records:
            if len(fields) < len(self._columns.all_columns):  # a file without these columns
                self._add_errors()
                self._bad.count_row()
                yield line, fields
                continue
            errors, self._words.errors = self._words.errors, []
            if sentence is not None and errors:
                sentence.error = sentence.error or errors[0]
            key = self._key(fields, line, sentence)
            if sentence is None or key != sentence.key:
                if sentence is not None:
                    yield from self._finish(sentence)
                sentence = self._start(key, line, errors)
            sentence.lines.append(line)
            sentence.rows.append(fields)
        if sentence is not None:
            if self._words.errors:
                sentence.error = sentence.error or self._words.errors[0]
            yield from self._finish(sentence)
        else:
            self._add_errors()
        self._add_accounting()

    def _key(self, fields: list[Any], line: int, before: _Sentence | None) -> tuple[str, ...]:
        """The values that identify the sentence; empty ones are those of the row above."""
        start = len(self._columns.requested.text)
        values = fields[start : start + len(self._columns.sentence)]
        names = [_identifier(value, self._bad.location(line)) for value in values]
        if before is None:
            if None in names:
                raise DataError(
                    "the first row has no value in the column of data.sentence; an empty value"
                    " continues the sentence of the row above",
                    where=self._bad.location(line),
                    hint="Fill in the first row, or set data.sentence to another column",
                )
            return tuple(map(str, names))
        filled = zip(names, before.key, strict=True)
        return tuple(previous if name is None else name for name, previous in filled)

    def _start(
        self, key: tuple[str, ...], line: int, errors: list[tuple[int, RowError]]
    ) -> _Sentence:
        sentence = _Sentence(key, error=errors[0] if errors else None)
        if key in self._seen and sentence.error is None:
            name = quote_value(key[0] if len(key) == 1 else key)
            error = RowError(
                "words of a sentence are not adjacent",
                f"the sentence {name} occurs again after another one",
                hint=_REPEATED_HINT,
            )
            sentence.error = (line, error)
        self._seen.add(key)
        return sentence

    def _finish(self, sentence: _Sentence) -> Iterator[Record]:
        self._bad.count_row()
        self._sentences += 1
        self._word_count += len(sentence.rows)
        self._single_words += len(sentence.rows) == 1
        if sentence.error is not None:
            self._bad.add(*sentence.error)
            return
        text_count, skipped = len(self._columns.requested.text), len(self._columns.sentence)
        columns = [list(column) for column in zip(*sentence.rows, strict=True)]
        del columns[text_count : text_count + skipped]
        first_line = sentence.lines[0]
        if sentence.lines[-1] - first_line == len(sentence.lines) - 1:
            columns = [LineValues(column) for column in columns]
        listed = text_count + len(self._columns.label)
        yield first_line, [*columns[:listed], *(column[0] for column in columns[listed:])]

    def _add_errors(self) -> None:
        """Add rows that are not in a sentence and cannot be read."""
        for line, error in self._words.errors:
            self._bad.count_row()
            self._bad.add(line, error)
        self._words.errors = []

    def _add_accounting(self) -> None:
        words, bad = self._words, self._bad
        further = max(words.read, self._word_count) - self._sentences
        if self._sentences and further:
            bad.other_lines["further word"] += further
        bad.other_lines.update(words.other_lines)
        bad.blank_lines += words.blank_lines
        bad.dropped.update(words.dropped)
        bad.notes += words.notes
        self._check_sentences()

    def _check_sentences(self) -> None:
        """Raise DataError if the sentences have one word each, or far too many."""
        count, words = self._sentences, self._word_count
        if not self._columns.label:  # rows to predict
            return
        if words > MAX_MEAN_WORDS * max(1, count):
            problem = f"{words:,} words in {count:,} sentences"
        elif count >= _MIN_SENTENCES and self._single_words > _MAX_SINGLE_WORD_SHARE * count:
            problem = f"{self._single_words:,} of {count:,} sentences have one word"
        else:
            return
        raise DataError(
            f"{problem}: data.sentence is not the column of the sentences",
            where=self._bad.source,
            hint="Set data.sentence to a column with one value for all words of a sentence, or"
            " leave it out if each row is a sentence",
        )


def _identifier(value: Any, where: str) -> str | None:
    """The value of a sentence column as text; None if it is empty."""
    if isinstance(value, float) and not math.isfinite(value):  # NaN, as pandas has it
        return None
    if value is not None and not isinstance(value, (str, int, float)):
        raise DataError(
            f"the sentence is {describe_value(value)}, not a name or number",
            where=where,
            hint="Set data.sentence to the column that names the sentence of each word",
        )
    return to_class_name(value)
