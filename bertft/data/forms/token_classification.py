"""Rows of words with tags, from CoNLL files, lists of JSON or Parquet, or text beside tags.

    text    the sentence, as it was given or as its words make it
    starts, stops    where in it each word begins and ends, in characters
    label   the tags of the words, in the scheme that the model learns: iob1 is kept as bio

The scheme is ``data.scheme``, or that in which the first split is written, and that is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from bertft.config.data import DataConfig
from bertft.data import classes
from bertft.data.bad_rows import BadRows, Fault
from bertft.data.cells import clean
from bertft.data.cells import text as text_of
from bertft.data.checks import drop
from bertft.data.columns import Asked, label_names, text_names
from bertft.data.forms.form import RowForm
from bertft.data.labels import class_name
from bertft.data.tagging import words as split_into
from bertft.data.tagging.conll import ENDINGS, WORDS, Stacked, read_conll
from bertft.data.tagging.schemes import OUTSIDE, breaks, detect, parse, tags_of, to_bio
from bertft.errors import UsageError

__all__ = ["Form"]


_ROWS = 65_536  # at a time, for as many lists of tags take far more memory than the rows


class Form(RowForm):
    """See the module. ``step``, until the rows are settled: lines from a word to the next.

    A file is CoNLL by its ending or without one; .txt to predict is a text a line.
    """

    texts = ("text",)
    gold = ("label", "step")
    classes = True

    def __init__(self, config: DataConfig, labelled: bool) -> None:
        names, label = text_names(config, ("text",)), label_names(config, ("label",))
        if len(names) != 1:
            raise UsageError(
                f"{len(names)} columns, where the words are in one", where="data.text",
                hint="Name that one",
            )  # fmt: skip
        if len(label) != 1:
            raise UsageError(
                f"{len(label)} columns, where the tags are in one", where="data.label",
                hint="Name that one",
            )  # fmt: skip
        self.named = config.labels
        self.scheme: str | None = None if config.scheme == "auto" else config.scheme
        self.found = False  # whether the scheme is that which the rows were found to have
        self.labelled = labelled
        self.reader = read_conll
        self.readers = {name: read_conll for name in ENDINGS if labelled or name != ".txt"}
        places = pa.list_(pa.int32())
        self.schema = [("text", pa.large_string()), ("starts", places), ("stops", places)]
        if labelled:
            self.columns = Asked(names, label)
            self.schema += [("label", pa.list_(pa.string())), ("step", pa.int8())]
        else:  # rows to predict need not name their words as the run's did
            self.columns = Asked(names if isinstance(names[0], str) else WORDS[:1], (), (), WORDS)

    def parse(self, fields: Sequence[Any], split: str) -> list[Any]:
        tags = _tags(fields[1]) if self.labelled else None
        text, bounds = _text(fields[0], tags)
        starts, stops = [list(each) for each in zip(*bounds, strict=True)] or [[], []]
        if not self.labelled:
            return [text, starts, stops]
        if tags is not None and len(tags) != len(bounds):
            raise Fault("words and tags differ", f"{len(bounds)} words, but {len(tags)} tags")
        return [text, starts, stops, tags, int(isinstance(fields[0], Stacked))]

    def settle(self, table: pa.Table, own: list[str] | None, bad: BadRows) -> pa.Table:
        """Tags by name, each in its place in the scheme; of the first split the scheme is told."""
        if "label" not in table.column_names:
            return table
        names = self._names(own)
        if names is not None:
            table, faulty = classes.renamed(
                table, names, self.named, source=bad.source, applied=self.mapping
            )
            table = drop(table, faulty, bad)
        pieces = [table.slice(start, _ROWS) for start in range(0, max(1, table.num_rows), _ROWS)]
        if self.scheme is None:
            tags = (each for piece in pieces for each in piece.column("label").to_pylist())
            self.scheme, self.found = detect(tags), True
        return pa.concat_tables([_fitting(piece, self.scheme, bad) for piece in pieces])

    def notes(self) -> list[str]:
        told = [f"the tags are {self.scheme}, found in the rows"] if self.found else []
        return [*told, *(["iob1 is kept as bio: the same entities"] * (self.scheme == "iob1"))]

    def class_names(self, table: pa.Table, own: list[str] | None) -> list[str]:
        """O, then all the tags of each type: a type may stand in validation as it did not here."""
        named = self._names(own) or []
        scheme = "bio" if self.scheme == "iob1" else self.scheme or "bio"
        found = set(classes.found(table)) if "label" in table.column_names else set()
        parsed = [parse(tag, scheme) for tag in found]
        kinds = sorted({tag[1] for tag in parsed if tag is not None and tag[0] != OUTSIDE})
        tags = [OUTSIDE, *(tag for kind in kinds for tag in tags_of(kind, scheme))]
        if scheme == "io" and OUTSIDE not in found:
            tags.remove(OUTSIDE)
        return [*named, *(tag for tag in tags if tag not in named)]

    def _names(self, own: list[str] | None) -> list[str] | None:
        """The classes that the model, the configuration or the source names."""
        if self.model_classes is not None:
            return self.model_classes
        return own if self.named is None else classes.listed(self.named)

    def nothing_to_learn(self, table: pa.Table) -> str:
        return "" if set(classes.found(table)) - {OUTSIDE} else "no word has a tag but O"

    def balance(self, table: pa.Table) -> dict[str, float]:
        """Tag → share of the rows that have it."""
        return classes.shares(table)


def _fitting(rows: pa.Table, scheme: str, bad: BadRows) -> pa.Table:
    """The rows whose tags ``scheme`` allows, with iob1 made bio; the others go to ``bad``."""
    labels = rows.column("label").to_pylist()
    kept = np.ones(len(labels), dtype=bool)
    for row, tags in enumerate(labels):
        place = breaks(tags, scheme)
        if place is not None:
            kept[row] = False
            given, at = rows.slice(row, 1).to_pylist()[0], min(place, len(tags) - 1)
            word = given["text"][given["starts"][at] : given["stops"][at]]
            bad.add(given["line"] + given["step"] * at, _broken(tags, place, word, scheme))
    if scheme == "iob1":
        field = rows.schema.field("label")
        made = [to_bio(tags) for tags in labels]
        place = rows.schema.get_field_index("label")
        rows = rows.set_column(place, field, pa.array(made, field.type))
    rows = rows if kept.all() else rows.filter(pa.array(kept))
    return rows.drop_columns("step")


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
