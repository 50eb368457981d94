"""Find the columns of entities in a table: texts with spans or tags, or one word per row.

text, spans              EU rejects it       [[0, 2, "ORG"]]
words, tags              ["EU", "rejects"]   ["B-ORG", "O"]
text, tags               EU rejects          B-ORG O
sentence, word, tag      1                   EU                 B-ORG
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

from bertft.data.annotated_spans import is_spans

__all__ = ["Column", "EntityColumns", "guess_entity_columns"]

_WORD_LISTS, _TAG_LISTS = ("tokens", "words"), ("ner_tags", "tags", "labels", "pos_tags")
_WORD_NAMES = ("word", "token", "words", "tokens", "text", "form", "字", "词")
_SENTENCE_NAME = re.compile(r"sent|句", re.IGNORECASE)
_TAG = re.compile(r"O|[BIESLUM]-\S+")
_MAX_WORD_SHARE_WITH_SPACES = 0.05


class Column(Protocol):
    """A column of the sampled rows; ``texts``: its values as text, without empty ones."""

    @property
    def name(self) -> str | int: ...
    @property
    def values(self) -> Sequence[Any]: ...
    @property
    def texts(self) -> list[str]: ...
    @property
    def is_list(self) -> bool: ...
    @property
    def mean_length(self) -> float: ...


@dataclass(frozen=True)
class EntityColumns:
    """The columns that are read as data.text, data.label and, for words, data.sentence."""

    text: Column
    label: Column
    sentence: Column | None = None


def guess_entity_columns(
    columns: Sequence[Column],
    texts: Sequence[Column],
    labels: Sequence[Column],
    text_names: Sequence[str],
) -> EntityColumns | None:
    """The columns of entities; None if there are none or it is unclear.

    Args:
        texts: the column of data.text, if it is configured.
        labels: the column of data.label, if it is configured.
        text_names: usual names of columns of texts.
    """
    strings = [column for column in columns if _has_strings(column)]
    likely_texts = texts or _named(strings, text_names) or strings
    guesses = (
        _with_spans(likely_texts, labels or columns),
        _with_lists(columns, texts, labels),
        _with_words(columns, texts, labels),
        _with_texts(texts or columns, labels or columns),
    )
    return next(chain.from_iterable(guesses), None)


def _with_spans(texts: Sequence[Column], labels: Sequence[Column]) -> Iterator[EntityColumns]:
    """The longest texts, and a column whose values are spans."""
    for label in labels:
        values = [value for value in label.values if value not in (None, "", [], {}, "[]")]
        if values and all(map(is_spans, values)):
            others = [column for column in texts if column is not label]
            text = max(others, key=lambda column: column.mean_length, default=None)
            if text is not None:
                yield EntityColumns(text, label)


def _with_lists(
    columns: Sequence[Column], texts: Sequence[Column], labels: Sequence[Column]
) -> Iterator[EntityColumns]:
    """Lists of words and lists of tags, by the names of their columns."""
    lists = [column for column in columns if column.is_list]
    words = texts or _named(lists, _WORD_LISTS)
    tags = labels or _named(lists, _TAG_LISTS)
    if words and tags and words[0].is_list and tags[0].is_list:
        yield EntityColumns(words[0], tags[0])


def _with_words(
    columns: Sequence[Column], texts: Sequence[Column], labels: Sequence[Column]
) -> Iterator[EntityColumns]:
    """One word per row with its tag, and a column that names or begins the sentence."""
    tags = [column for column in labels or columns if _has_single_tags(column)]
    if not tags:
        return
    others = [column for column in columns if column is not tags[0]]
    sentence = next((column for column in others if _SENTENCE_NAME.search(str(column.name))), None)
    sentence = sentence or next(filter(_begins_sentences, others), None)
    words = texts or _named([column for column in others if column is not sentence], _WORD_NAMES)
    if sentence is not None and words and words[0] is not sentence and _has_words(words[0]):
        yield EntityColumns(words[0], tags[0], sentence)


def _with_texts(texts: Sequence[Column], labels: Sequence[Column]) -> Iterator[EntityColumns]:
    """A text and its tags, separated by spaces, one per word."""
    for label in labels:
        tags = [text.split() for text in label.texts]
        if not any(len(row) > 1 for row in tags) or not _are_entity_tags(
            tag for row in tags for tag in row
        ):
            continue
        counts = [len(row) for row in tags]
        for text in texts:
            if text is not label and [len(words.split()) for words in text.texts] == counts:
                yield EntityColumns(text, label)


def _named(columns: Sequence[Column], names: Sequence[str]) -> list[Column]:
    """The column whose name comes first in ``names``; empty if there is none."""
    by_name = {str(column.name).casefold(): column for column in reversed(columns)}
    return [by_name[name] for name in names if name in by_name][:1]


def _has_strings(column: Column) -> bool:
    return bool(column.texts) and all(
        value is None or isinstance(value, str) for value in column.values
    )


def _has_single_tags(column: Column) -> bool:
    return not column.is_list and _are_entity_tags(column.texts)


def _are_entity_tags(tags: Any) -> bool:
    """Whether there are entities and words outside of them, and nothing else."""
    distinct = set(tags)
    return len(distinct) > 1 and "O" in distinct and all(map(_TAG.fullmatch, distinct))


def _has_words(column: Column) -> bool:
    """Whether hardly any value has a space."""
    with_spaces = sum(" " in text for text in column.texts)
    return bool(column.texts) and with_spaces <= _MAX_WORD_SHARE_WITH_SPACES * len(column.texts)


def _begins_sentences(column: Column) -> bool:
    """Whether the column has a value in the first row and in few others."""
    values = column.values
    return values[0] not in (None, "") and 0 < 2 * len(column.texts) < len(values)
