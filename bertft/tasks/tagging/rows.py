"""Rows of words with tags, from CoNLL files, lists of JSON or Parquet, or text beside tags.

    text    the sentence, as it was given or as its words make it
    starts, stops    where in it each word begins and ends, in characters
    label   the tags of the words, in the scheme that the model learns: iob1 is kept as bio

The scheme is ``data.scheme``, or that in which the first split is written, and that is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bertft.data.bad_rows import BadRows, Fault
from bertft.data.checks import clean, text_of
from bertft.data.columns import Asked, asked
from bertft.data.files import read_file
from bertft.data.labels import class_name
from bertft.data.row_form import RowForm
from bertft.data.separated import Record
from bertft.errors import DataError
from bertft.tasks.tagging import words as split_into
from bertft.tasks.tagging.conll import Stacked, read_conll
from bertft.tasks.tagging.schemes import OUTSIDE, breaks, detect, parse, tags_of, to_bio

__all__ = ["TaggedRows"]

_OTHER_FORMATS = (".jsonl", ".ndjson", ".parquet", ".pq", ".csv")
# What the words are called where rows to predict do not name them as the run's did.
_INSTEAD = ("text", "words", "tokens")
_DEFAULTS = {"data.text": "text", "data.label": "label"}


class TaggedRows(RowForm):
    """See the module. ``step``, until the rows are settled: lines from a word to the next."""

    stratified = False

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.scheme: str | None = None if config.scheme == "auto" else config.scheme

    def asked(self, labelled: bool = True) -> Asked:
        columns = asked(self.config, labelled)
        if len(columns.text) != 1:
            raise DataError("the words are in one column", where="data.text", hint="Name that one")
        if labelled:
            return columns
        name = columns.text if isinstance(columns.text[0], str) else _INSTEAD[:1]
        return Asked(name, (), _INSTEAD)

    def read(self, path: Path, columns: Asked, bad: BadRows) -> Iterator[Record]:
        """CoNLL, unless the ending names another format; .txt to predict is a text a line."""
        ending = path.suffix.lower()
        if ending in _OTHER_FORMATS or (ending == ".txt" and not columns.label):
            return read_file(path, columns, self.config, bad)
        given = self.config.separator
        separator = "\t" if given == "\\t" else None if given is None or given == " " else given
        return read_conll(path, self._by_position(columns), self.config.encoding, separator, bad)

    def _by_position(self, columns: Asked) -> Asked:
        """The columns of a file without a header: by default the first and the last one."""
        text = tuple(0 if name in _INSTEAD else name for name in columns.text)
        label = tuple(-1 if name == _DEFAULTS["data.label"] else name for name in columns.label)
        return Asked(text, label)

    def fields(self, columns: Asked) -> list[pa.Field]:
        places = pa.list_(pa.int32())
        fields = [("text", pa.large_string()), ("starts", places), ("stops", places)]
        if columns.label:
            fields += [("label", pa.list_(pa.string())), ("step", pa.int8())]
        return [pa.field(*each) for each in fields]

    def parse(self, values: Sequence[Any], columns: Asked) -> list[Any]:
        tags = _tags(values[1]) if columns.label else None
        text, bounds = _text(values[0], tags)
        starts, stops = [list(each) for each in zip(*bounds, strict=True)] or [[], []]
        if not columns.label:
            return [text, starts, stops]
        if tags is not None and len(tags) != len(bounds):
            raise Fault("words and tags differ", f"{len(bounds)} words, but {len(tags)} tags")
        return [text, starts, stops, tags, int(isinstance(values[0], Stacked))]

    def check(self, table: pa.Table, named: bool, bad: BadRows) -> None:
        """Tags are judged one by one, against the scheme."""

    def learn(self, table: pa.Table) -> None:
        if self.scheme is None and "label" in table.column_names:
            self.scheme = detect([tags for tags in table.column("label").to_pylist() if tags])
            self.notes.append(f"the tags are {self.scheme}, found in the rows")
        if self.scheme == "iob1":
            self.notes.append("iob1 is kept as bio: the same entities")

    def settle(self, table: pa.Table, bad: BadRows) -> pa.Table:
        if "label" not in table.column_names:
            return table.drop_columns("step") if "step" in table.column_names else table
        assert self.scheme is not None
        names = ("label", "text", "starts", "stops", "line", "step")
        columns = [table.column(name).to_pylist() for name in names]
        kept = np.ones(table.num_rows, dtype=bool)
        for row, (tags, text, starts, stops, line, step) in enumerate(zip(*columns, strict=True)):
            place = breaks(tags, self.scheme)
            if place is not None:
                at = min(place, len(tags) - 1)
                bad.add(
                    line + step * at,
                    _broken(tags, place, text[starts[at] : stops[at]], self.scheme),
                )
                kept[row] = False
        labels = columns[0]
        if self.scheme == "iob1":
            labels = [to_bio(tags) if kept[row] else tags for row, tags in enumerate(labels)]
        field = table.schema.field("label")
        table = table.set_column(
            table.schema.get_field_index("label"), field, pa.array(labels, field.type)
        )
        return table.filter(pa.array(kept)).drop_columns("step")

    def classes(self, table: pa.Table, named: Sequence[str] | None) -> list[str]:
        """O, then all the tags of each type: a type may stand in validation as it did not here."""
        scheme = "bio" if self.scheme == "iob1" else self.scheme or "bio"
        found = {tag for tags in table.column("label").to_pylist() for tag in tags}
        parsed = [parse(tag, scheme) for tag in found]
        kinds = sorted({tag[1] for tag in parsed if tag is not None and tag[0] != OUTSIDE})
        tags = [OUTSIDE, *(tag for kind in kinds for tag in tags_of(kind, scheme))]
        if scheme == "io" and OUTSIDE not in found:
            tags.remove(OUTSIDE)
        return [*named, *(tag for tag in tags if tag not in named)] if named is not None else tags

    def check_enough(self, table: pa.Table, bad: BadRows, training: bool) -> None:
        if table.num_rows == 0:
            super().check_enough(table, bad, training)
        if training and not any(
            tag != OUTSIDE for tags in table.column("label").to_pylist() for tag in tags
        ):
            raise DataError(
                "no word has a tag but O", where=bad.source,
                hint="There is nothing to learn. Is data.label the column you mean?",
            )  # fmt: skip


def _tags(value: Any) -> list[str] | None:
    """The tags of a row; None where they are missing."""
    if isinstance(value, str):
        value = value.split()
    if value is None or value == []:
        return None
    if not isinstance(value, list):
        raise Fault("tags are no list", f"the tags are a {type(value).__name__}, not a list")
    tags = []
    for place, each in enumerate(value):
        name = class_name(clean(each, "tag") if isinstance(each, str) else each)
        if name is None:
            after = place if isinstance(value, Stacked) else 0
            raise Fault("missing tag", f"word {place + 1} has no tag", after)
        tags.append(name)
    return tags


def _text(value: Any, tags: list[str] | None) -> tuple[str, split_into.Bounds]:
    """The text of a row and its words; a string is split so that each of its ``tags`` has one."""
    if isinstance(value, list):
        words = [_word(each, place, value) for place, each in enumerate(value)]
        if not words:
            raise Fault("empty text")
        return split_into.joined(words)
    text = text_of(value)
    if tags is None:
        return text, split_into.split(text)
    bounds = split_into.at_spaces(text)
    alone = split_into.characters(text)
    return text, alone if len(bounds) != len(tags) == len(alone) else bounds


def _word(value: Any, place: int, words: list[Any]) -> str:
    after = place if isinstance(words, Stacked) else 0
    if not isinstance(value, str) or not value.strip():
        raise Fault("empty word", f"word {place + 1} is {value!r}", after)
    try:
        return clean(value, "word")
    except Fault as fault:
        raise Fault(fault.reason, fault.detail, after) from None


def _broken(tags: Sequence[str], place: int, word: str, scheme: str) -> Fault:
    reason = "tag breaks the scheme"
    if place == len(tags):
        return Fault(
            reason, f"{tags[-1]!r} of the last word {word!r} leaves an entity open ({scheme})"
        )
    if parse(tags[place], scheme) is None:
        return Fault(reason, f"{tags[place]!r} of the word {word!r} is no tag of {scheme}")
    before = f"after {tags[place - 1]!r}" if place else "at the beginning"
    return Fault(reason, f"{tags[place]!r} of the word {word!r} cannot stand {before} ({scheme})")
