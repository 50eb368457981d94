"""Tags of all splits of a data set: converted to names and to the scheme of the classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertft.data.labels import (
    are_placeholder_names,
    class_name_as_number,
    configured_class_names,
    format_similar_names,
    map_labels_to_classes,
    observed_classes,
)
from bertft.data.rows import BadRows, RowError, drop_rows
from bertft.data.schema import LabelReader
from bertft.errors import DataError
from bertft.tasks.token_classification.scheme_detection import (
    TARGET_SCHEMES,
    TagConverter,
    count_tag_pairs,
    is_valid_in_scheme,
    make_tag_converter,
)
from bertft.tasks.token_classification.tag_schemes import (
    OUTSIDE,
    infer_class_scheme,
    parse_tag,
    tags_of_type,
)
from bertft.utils.messages import quote_value

__all__ = ["AS_LINES", "AS_LISTS", "AS_SPANS", "AS_TEXTS", "SCHEME_OF_SPANS", "TagReader"]

# The input format of a row: lists, one word per line, a text with tags, or a text with spans.
AS_LISTS, AS_LINES, AS_TEXTS, AS_SPANS = range(4)
SCHEME_OF_SPANS = "bio"
_CHUNK_ROWS = 65_536  # converted at a time: lists of tags in Python take much memory
_MAX_TAGS, _WORDS_PER_TAG = 50, 5  # more distinct tags on fewer words are an error
_MIN_ROWS = 5  # fewer rows may all have one word each
# Names that files without the tag O may use for words outside of entities.
_OUTSIDE_NAMES = {"o", "_", "-", "none", "null", "other", "out", "outside", "na", "n/a", "empty"}
_MAX_SINGLE_WORD_SHARE = 0.9  # above this fraction of one-word rows, each row is a word


class TagReader(LabelReader):
    """Converts tags to names and to the scheme of the classes, which the first split decides."""

    def __init__(
        self, configured_classes: Any, scheme: str | None, model_classes: list[str] | None
    ) -> None:
        """``configured_classes``: data.labels. ``scheme``: data.scheme; None: it is detected."""
        super().__init__(model_classes)
        self.configured_classes, self.scheme = configured_classes, scheme
        self.target_scheme: str | None = None  # the scheme of the classes, once it is known

    def normalize(
        self, table: pa.Table, declared_classes: list[str] | None, bad: BadRows
    ) -> pa.Table:
        """Convert tags to names and to the model's scheme, which the first split decides."""
        if "label" not in table.column_names:
            return table
        are_spans = _are_spans(table)
        if are_spans:
            self._expand_types()
        _check_shape(table, bad)
        names = self._known_classes(declared_classes)
        table = self._tags_to_names(table, names, bad)
        if names is not None and are_placeholder_names(names):
            return table.drop_columns("step")  # placeholders are reported with the rows
        if names is None and self.target_scheme is None:
            _check_count(table, bad.source)
        chunks = [
            table.slice(start, _CHUNK_ROWS)
            for start in range(0, max(1, table.num_rows), _CHUNK_ROWS)
        ]
        pairs = count_tag_pairs(
            tags for chunk in chunks for tags in chunk.column("label").to_pylist()
        )
        if (
            names is declared_classes
            and declared_classes
            and all(name == OUTSIDE or name[:2] == "I-" for name in declared_classes)
        ):
            names = None  # iob1 without B-X: use the classes of bio
        scheme = self.scheme or (SCHEME_OF_SPANS if are_spans else None)
        converter = make_tag_converter(pairs, scheme, self.target_scheme, names, bad.source)
        if names is None and self.target_scheme is None and self.scheme is None:
            if converter.scheme == "io":
                _check_outside(observed_classes(table), bad.source)
            elif note := format_similar_names(observed_classes(table)):
                self.notes.append(note)
        if self.target_scheme is None and scheme is None:
            self.notes.append(f"the tags are {converter.scheme} (detected)")
        elif self.target_scheme is None and are_spans:
            self.notes.append(f"the spans are converted to {scheme} tags of words")
        self.target_scheme = converter.target_scheme
        self.notes += converter.notes(bad.source)
        if converter.is_identity and is_valid_in_scheme(pairs, converter.scheme):
            return table.drop_columns("step")
        return pa.concat_tables([_convert_tags(chunk, converter, bad) for chunk in chunks])

    def _expand_types(self) -> None:
        """Names of data.labels without a prefix are types of spans: their classes are all tags."""
        if self.configured_classes is None:
            return
        names = configured_class_names(self.configured_classes)
        if infer_class_scheme(names)[0] == "io":
            scheme = self.scheme or SCHEME_OF_SPANS
            scheme = TARGET_SCHEMES.get(scheme, scheme)
            tags = [tag for name in names if name != OUTSIDE for tag in tags_of_type(name, scheme)]
            self.configured_classes = [OUTSIDE, *tags]

    def _tags_to_names(self, table: pa.Table, names: list[str] | None, bad: BadRows) -> pa.Table:
        """Convert tags that are numbers or keys of data.labels to names."""
        observed = observed_classes(table)
        numbers = [
            tag
            for tag in observed
            if class_name_as_number(tag) is not None or tag in ("false", "true")
        ]
        if names is None and numbers and len(numbers) == len(observed):
            raise DataError(
                f"the tags are numbers or true and false ({', '.join(numbers[:5])}"
                f"{', …' if len(numbers) > 5 else ''}) without names",
                where=bad.source,
                hint="Set data.labels=[O,B-PER,I-PER,…] in the order of the numbers, or"
                " 'data.labels={false: O, true: X}'. Parquet files that datasets writes from"
                " ClassLabel columns contain the names",
            )
        if names is None or not (
            isinstance(self.configured_classes, Mapping) or len(numbers) == len(observed)
        ):
            return table
        table, masked_errors = map_labels_to_classes(
            table, names, self.configured_classes, source=bad.source, applied=self.label_mapping
        )
        return drop_rows(table, masked_errors, bad)

    def class_names(self, table: pa.Table, declared_classes: list[str] | None) -> list[str]:
        """O, then all tags of each type: validation may have tags that are not in this split.

        With data.labels, only its classes and O.
        """
        scheme = self.target_scheme or "bio"
        if self.model_classes is not None:
            return self.model_classes
        if self.configured_classes is not None:
            names = self._known_classes(declared_classes) or []
            return names if scheme == "io" or {OUTSIDE, "o"} & set(names) else [*names, OUTSIDE]
        declared = declared_classes or []
        observed = {
            *declared,
            *(observed_classes(table) if "label" in table.column_names else ()),
        }
        parsed = [parse_tag(tag, scheme) for tag in observed]
        types = sorted({tag[1] for tag in parsed if tag is not None and tag[0] != OUTSIDE})
        tags = [
            OUTSIDE,
            *(tag for entity_type in types for tag in tags_of_type(entity_type, scheme)),
        ]
        if scheme == "io" and OUTSIDE not in observed:
            tags.remove(OUTSIDE)
        return [*declared, *(tag for tag in tags if tag not in declared)]

    def _known_classes(self, declared_classes: list[str] | None) -> list[str] | None:
        """The classes of the model, the configuration or the source; None if none has any."""
        if self.model_classes is not None:
            return self.model_classes
        if self.configured_classes is not None:
            return configured_class_names(self.configured_classes)
        return declared_classes

    def nothing_to_learn(self, table: pa.Table) -> str:
        observed = observed_classes(table)
        if not set(observed) - {OUTSIDE}:
            return "all words have the tag O"
        if len(observed) == 1 and self.target_scheme == "io":
            return f"every word has the tag {observed[0]!r}"
        return ""


def _are_spans(table: pa.Table) -> bool:
    """Whether all rows are texts with spans."""
    return table.num_rows > 0 and bool(pc.all(pc.equal(table.column("step"), AS_SPANS)).as_py())


def _check_count(table: pa.Table, source: str) -> None:
    """Raise DataError if there are too many distinct tags for the number of words."""
    observed, words = observed_classes(table), len(pc.list_flatten(table.column("label")))
    if len(observed) > _MAX_TAGS and _WORDS_PER_TAG * len(observed) > words:
        raise DataError(
            f"{len(observed):,} different tags in {words:,} words ({', '.join(observed[:3])}, …)",
            where=source,
            hint="Is data.label the column of the tags? If so, list them with data.labels",
        )


def _check_outside(tags: list[str], source: str) -> None:
    """Raise DataError if a type is probably the file's name for words outside of entities."""
    outside_name = next(
        (tag for tag in tags if tag.strip("<>[]").casefold() in _OUTSIDE_NAMES), None
    )
    if outside_name is not None and OUTSIDE not in tags and len(tags) > 1:
        raise DataError(
            "the tags are types without a prefix, and none of them is O: the tag"
            f" {quote_value(outside_name)} may be a type, or mark words outside of entities",
            where=source,
            hint=f"Map each tag, as in 'data.labels={{{outside_name}: O, ...}}', or set"
            f" data.scheme=io if {quote_value(outside_name)} is a type",
        )


def _check_shape(table: pa.Table, bad: BadRows) -> None:
    """Raise DataError for a table with one word, not one sentence, per row."""
    texts = pc.equal(table.column("step"), AS_TEXTS)
    sizes = pc.list_value_length(table.column("label")).filter(texts)
    single_word_rows, empty = pc.sum(pc.equal(sizes, 1)).as_py() or 0, bad.counts["empty text"]
    if len(sizes) >= _MIN_ROWS and single_word_rows > _MAX_SINGLE_WORD_SHARE * len(sizes):
        problem = f"{single_word_rows:,} of {len(sizes):,} rows have one word and one tag"
    elif empty > max(_MIN_ROWS, table.num_rows):
        problem = f"{empty:,} of {table.num_rows + len(bad):,} rows have no text"
    else:
        return
    raise DataError(
        f"{problem}: this looks like a table with one word per row",
        where=bad.source,
        hint="A row must be a sentence. If a column names the sentence of each word, set"
        " data.sentence=<column>. Otherwise write a CoNLL file (one word and its tag per line, a"
        " blank line after each sentence)",
    )


def _convert_tags(rows: pa.Table, converter: TagConverter, bad: BadRows) -> pa.Table:
    """The rows with converted tags; rows with invalid tags are added to ``bad``."""
    labels = rows.column("label").to_pylist()
    valid_mask = np.ones(len(labels), dtype=bool)
    converted: list[list[str]] = []
    for row, tags in enumerate(labels):
        try:
            converted.append(converter.convert(tags))
        except RowError as error:
            valid_mask[row] = False
            values, word_index = rows.slice(row, 1).to_pylist()[0], error.line_offset
            word = values["text"][values["starts"][word_index] : values["stops"][word_index]]
            detail = error.detail.replace("{word!r}", repr(word))
            line_offset = word_index if values["step"] == AS_LINES else 0
            bad.add(values["line"] + line_offset, RowError(error.reason, detail))
    rows = rows if valid_mask.all() else rows.filter(pa.array(valid_mask))
    if not converter.is_identity:
        column_index = rows.schema.get_field_index("label")
        field = rows.schema.field(column_index)
        rows = rows.set_column(column_index, field, pa.array(converted, field.type))
    return rows.drop_columns("step")
