"""Rows of words with tags, from CoNLL files, lists of JSON or Parquet, or text with tags or spans.

    text             the sentence: the original text, or its joined words
    starts, stops    first and last + 1 character of each word
    label            the tags of the words, in the model's scheme (iob1 is converted to bio)

The scheme is ``data.scheme``, or it is detected in the first split and logged. A text with spans is
split into words as a text to predict is.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from bertft.config.data import DataConfig
from bertft.config.registry import READERS
from bertft.data.annotated_spans import Span, parse_spans, parse_token_bounds
from bertft.data.labels import class_shares, configured_label_mapping, to_class_name
from bertft.data.readers.conll import WORD_COLUMNS, LineValues
from bertft.data.readers.word_rows import group_words
from bertft.data.rows import RowError
from bertft.data.schema import (
    ANSWER_COLUMN,
    ColumnSpec,
    LabelReader,
    RowSchema,
    check_characters,
    exclude_by_answer,
    label_columns,
    require_text,
    sentence_columns,
    text_columns,
)
from bertft.errors import UsageError
from bertft.tasks.shared.label_lists import parse_list
from bertft.tasks.shared.word_splitting import (
    WordBounds,
    join_words,
    split_at_spaces,
    split_characters,
    split_words,
)
from bertft.tasks.token_classification.span_tags import spans_to_tags
from bertft.tasks.token_classification.tag_reader import (
    AS_LINES,
    AS_LISTS,
    AS_SPANS,
    AS_TEXTS,
    SCHEME_OF_SPANS,
    TagReader,
)
from bertft.tasks.token_classification.tag_schemes import OUTSIDE, parse_class_tags
from bertft.utils.messages import describe_value

__all__ = ["TokenClassificationRowSchema"]

# Names of the column of spans that annotation tools use.
_SPAN_COLUMNS = ("labels", "entities", "spans", "annotations")
# Columns of annotation tools. Prodigy: the words of the text. Label Studio: the annotation, also of
# a text without spans.
_TOKENS, _ANNOTATION = "tokens", "annotation_id"
_ACCEPTED = "accept"


class TokenClassificationRowSchema(RowSchema):
    """The rows of the module's docstring, with a temporary column ``step``: the input format.

    A file is read as CoNLL by its extension or without one; a .txt file to predict has one text per
    line. With data.sentence, a table has one word per row.
    """

    text_fields = ("text",)
    label_fields = ("label", "step")
    has_classes = True

    def __init__(self, config: DataConfig, labelled: bool) -> None:
        names, label = text_columns(config, ("text",)), label_columns(config, ("label",))
        if len(names) != 1:
            raise UsageError(
                f"expected one column of words, got {len(names)}",
                where="data.text",
                hint="Set data.text=<column>",
            )
        if len(label) != 1:
            raise UsageError(
                f"expected one column of tags, got {len(label)}",
                where="data.label",
                hint="Set data.label=<column>",
            )
        self.configured_classes = config.labels
        self.scheme: str | None = None if config.scheme == "auto" else config.scheme
        self.labelled = labelled
        self.default_format = "conll"
        if labelled:
            self.formats_by_extension = {".txt": "conll"}
        if config.sentence is not None:
            self.default_format = "csv"
            self.formats_by_extension = {".tsv": "tsv", ".tab": "tsv"}
            sentence = sentence_columns(config)
            self.readers = {
                name: group_words(name, sentence)
                for name, spec in READERS.specs().items()
                if not spec.tasks
            }
        self.type_names = (
            configured_label_mapping(config.labels) if isinstance(config.labels, Mapping) else {}
        )
        offset_lists = pa.list_(pa.int32())
        self.fields = [
            ("text", pa.large_string()),
            ("starts", offset_lists),
            ("stops", offset_lists),
        ]
        if labelled:
            self.columns = ColumnSpec(
                names,
                label,
                optional=(_TOKENS, ANSWER_COLUMN, _ANNOTATION),
                label_alternatives=_SPAN_COLUMNS if config.label is None else (),
            )
            self.fields += [("label", pa.list_(pa.string())), ("step", pa.int8())]
        else:  # rows to predict may use another column name than the training rows
            self.columns = ColumnSpec(
                names if isinstance(names[0], str) else WORD_COLUMNS[:1],
                (),
                optional=(_TOKENS,),
                text_alternatives=WORD_COLUMNS,
            )

    def parse(self, fields: Sequence[Any], split: str, ignored: list[str]) -> list[Any]:
        value, optional = fields[0], self._optional_values(fields)
        exclude_by_answer(optional.get(ANSWER_COLUMN))
        if not self.labelled:
            is_text = _is_text(value)
            text, bounds = _split_text(value, optional) if is_text else _parse_words(value, None)
            return [text, *_offsets(bounds)]
        spans = self._parse_spans(fields[1], optional) if _is_text(value) else None
        if spans is not None:
            text, bounds = _split_text(value, optional)
            tags = spans_to_tags(text, bounds, spans, self._scheme_of_spans(), ignored)
            return [text, *_offsets(bounds), tags, AS_SPANS]
        given_tags = _parse_tags(fields[1])
        text, bounds = _parse_words(value, given_tags)
        if given_tags is not None and len(given_tags) != len(bounds):
            raise RowError(
                "words and tags differ", f"{len(bounds)} words, but {len(given_tags)} tags"
            )
        input_format = AS_LINES if isinstance(value, LineValues) else AS_LISTS
        if isinstance(value, str):
            input_format = AS_TEXTS
        return [text, *_offsets(bounds), given_tags, input_format]

    def _optional_values(self, fields: Sequence[Any]) -> dict[str, Any]:
        """The values of the columns of annotation tools; formats of words do not have them."""
        count = len(self.columns.text) + len(self.columns.label)
        return dict(zip(self.columns.optional, fields[count:], strict=False))

    def _parse_spans(self, value: Any, optional: Mapping[str, Any]) -> list[Span] | None:
        """The spans of a text, with the names of data.labels; None if ``value`` is not spans."""
        is_annotated = (
            optional.get(_ANNOTATION) not in (None, "") or optional.get(ANSWER_COLUMN) == _ACCEPTED
        )
        if value in (None, "") and is_annotated:
            return []
        spans = parse_spans(value)
        if not spans or not self.type_names:
            return spans
        renamed = [
            replace(span, label=self.type_names.get(span.label, span.label)) for span in spans
        ]
        return [span for span in renamed if span.label != OUTSIDE]

    def _scheme_of_spans(self) -> str:
        """The scheme of the tags of spans. Raises UsageError for one in which spans are merged."""
        if self.scheme in ("io", "iob1"):
            raise UsageError(
                f"{self.scheme} is for tags, but the rows have spans",
                where="data.scheme",
                hint="Leave it out, or set data.scheme=bio or data.scheme=bioes",
            )
        return self.scheme or SCHEME_OF_SPANS

    def label_reader(self, model_classes: list[str] | None = None) -> LabelReader:
        return TagReader(self.configured_classes, self.scheme, model_classes)

    def label_statistics(self, table: pa.Table) -> dict[str, float]:
        """Tag → fraction of the rows that have it."""
        return class_shares(table)

    def missing_classes(self, classes: Sequence[str], occurring: Collection[str]) -> list[str]:
        """The tags of types that no row has: entities of one word have no tag I-X."""
        _, tags = parse_class_tags(classes)
        types = dict(zip(classes, (entity_type for _, entity_type in tags), strict=True))
        found = {types[name] for name in classes if name in occurring}
        return [name for name in classes if types[name] not in found]


def _is_text(value: Any) -> bool:
    """Whether ``value`` is read as a text, and not as a list of words or the text of one."""
    return not isinstance(value, list) and not (isinstance(value, str) and parse_list(value))


def _split_text(value: Any, optional: Mapping[str, Any]) -> tuple[str, WordBounds]:
    """A text, unchanged, and its words: those of the file if it has them."""
    text = require_text(value)
    return text, parse_token_bounds(optional.get(_TOKENS), text) or split_words(text)


def _offsets(bounds: WordBounds) -> tuple[list[int], list[int]]:
    """The starts and the stops of words."""
    return [start for start, _ in bounds], [stop for _, stop in bounds]


def _parse_tags(value: Any) -> list[str] | None:
    """The tags of a row; None if they are missing."""
    if isinstance(value, str):
        content = parse_list(value)
        if content is None and value.strip().startswith("[") and value.strip().endswith("]"):
            raise RowError(
                "tags are not a list", "the tags are in brackets, but not a JSON or Python list"
            )
        value = value.split() if content is None else content
    if value is None or value == []:
        return None
    if not isinstance(value, list):
        raise RowError("tags are not a list", f"the tags are {describe_value(value)}, not a list")
    tags = []
    for position, item in enumerate(value):
        name = to_class_name(check_characters(item, "tag") if isinstance(item, str) else item)
        if name is None:
            line_offset = position if isinstance(value, LineValues) else 0
            raise RowError("missing tag", f"word {position + 1} has no tag", line_offset)
        tags.append(name)
    return tags


def _parse_words(value: Any, tags: list[str] | None) -> tuple[str, WordBounds]:
    """The text of a row and its words; a string is split into as many words as ``tags``."""
    if isinstance(value, str) and (content := _parse_word_list(value, tags)) is not None:
        value = content
    if isinstance(value, list):
        words = [_check_word(item, position, value) for position, item in enumerate(value)]
        if not words:
            raise RowError("empty text")
        return join_words(words)
    text = require_text(value)
    if tags is None:
        return text, split_words(text)
    bounds = split_at_spaces(text, ascii_only=True)
    for candidate in (split_at_spaces(text), split_characters(text)):
        if len(bounds) != len(tags) == len(candidate):
            bounds = candidate
    return text, bounds


def _parse_word_list(text: str, tags: list[str] | None) -> list[str] | None:
    """The words of a list written as ``text``; None if it is plain text."""
    words = parse_list(text)
    if not words or not all(isinstance(word, str) and word for word in words):
        return None
    if tags is None or len(tags) == len(words):
        return words
    is_text = len(tags) == len(split_at_spaces(text, ascii_only=True))
    return None if is_text else words


def _check_word(value: Any, position: int, words: list[Any]) -> str:
    line_offset = position if isinstance(words, LineValues) else 0
    if value == "":
        raise RowError("empty word", f"word {position + 1} is empty", line_offset)
    if not isinstance(value, str):
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        raise RowError(
            "word is not a string",
            f"word {position + 1} is {describe_value(value)}, not a string",
            line_offset,
            hint='Write numbers among words in quotes: "2019"' if is_number else None,
        )
    try:
        return check_characters(value, "word")
    except RowError as error:
        raise RowError(error.reason, error.detail, line_offset) from None
