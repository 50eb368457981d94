"""Rows of words with tags, from CoNLL files, lists of JSON or Parquet, or text beside tags.

    text    the sentence, as it was given or as its words make it
    starts, stops    where in it each word begins and ends, in characters
    label   the tags of the words, in the scheme that the model learns: iob1 is kept as bio

The scheme is ``data.scheme``, or that in which the first split is written, and that is told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertft.config.data import DataConfig
from bertft.config.messages import quoted
from bertft.data import classes
from bertft.data.bad_rows import BadRows, Fault
from bertft.data.cells import clean, listed
from bertft.data.cells import text as text_of
from bertft.data.checks import drop
from bertft.data.columns import Asked, label_names, text_names
from bertft.data.forms.form import RowForm
from bertft.data.labels import class_name, numeric
from bertft.data.tagging import words as split_into
from bertft.data.tagging.conll import ENDINGS, WORDS, Stacked, read_conll
from bertft.data.tagging.detect import count_pairs, fits
from bertft.data.tagging.reading import Reading, read_as
from bertft.data.tagging.schemes import OUTSIDE, parse, tags_of
from bertft.errors import DataError, UsageError

__all__ = ["Form"]


_ROWS = 65_536  # at a time, for as many lists of tags take far more memory than the rows
_TAGS_AT_MOST, _WORDS_PER_TAG = 50, 5  # more tags than that, on so few words, are not tags
_LISTS, _LINES, _TEXTS = range(3)  # how the words of a row are given; lines: one word per line
_FEW = 5  # rows, of which that many may have one word each
# How files without the letter O may write that a word is outside of entities.
_OUTSIDE_NAMES = {"o", "_", "-", "none", "null", "other", "out", "outside", "na", "n/a", "empty"}
_MOST = 0.9  # share of rows with one word, above which each row is a word


class Form(RowForm):
    """See the module. ``step``, until the rows are settled: how the words of a row are given.

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
        self.kept_as: str | None = None  # the scheme of the classes, once it is known
        self.reports: list[str] = []
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
        kind = _LINES if isinstance(fields[0], Stacked) else _LISTS
        return [text, starts, stops, tags, _TEXTS if isinstance(fields[0], str) else kind]

    def settle(self, table: pa.Table, own: list[str] | None, bad: BadRows) -> pa.Table:
        """Tags by name, each in its place in the scheme; the first split decides the scheme."""
        if "label" not in table.column_names:
            return table
        _check_shape(table, bad)
        names = self._names(own)
        table = self._by_name(table, names, bad)
        if names is not None and classes.placeholders(names):
            return table.drop_columns("step")  # that they name nothing is reported with the rows
        if names is None and self.kept_as is None:
            _check_count(table, bad.source)
        pieces = [table.slice(start, _ROWS) for start in range(0, max(1, table.num_rows), _ROWS)]
        pairs = count_pairs(tags for piece in pieces for tags in piece.column("label").to_pylist())
        if names is own and own and all(name == OUTSIDE or name[:2] == "I-" for name in own):
            names = None  # iob1 without a B-X: the classes are those of bio
        reading = read_as(pairs, self.scheme, self.kept_as, names, bad.source)
        if names is None and self.kept_as is None and self.scheme is None:
            if reading.scheme == "io":
                _check_outside(classes.found(table), bad.source)
            elif remark := classes.look_alikes(classes.found(table)):
                self.reports.append(remark)
        if self.kept_as is None and self.scheme is None:
            self.reports.append(f"the tags are {reading.scheme} (detected)")
        self.kept_as = reading.kept_as
        self.reports += reading.notes(bad.source)
        if reading.unchanged and fits(pairs, reading.scheme):
            return table.drop_columns("step")
        return pa.concat_tables([_read(piece, reading, bad) for piece in pieces])

    def _by_name(self, table: pa.Table, names: list[str] | None, bad: BadRows) -> pa.Table:
        """Tags that are numbers, or that data.labels maps, by name. DataError without names."""
        given = classes.found(table)
        numbers = [tag for tag in given if numeric(tag) is not None or tag in ("false", "true")]
        if names is None and numbers and len(numbers) == len(given):
            raise DataError(
                f"the tags are numbers or true and false ({', '.join(numbers[:5])}"
                f"{', …' if len(numbers) > 5 else ''}) without names",
                where=bad.source,
                hint="Name them: data.labels=[O,B-PER,I-PER,…] in the order of the numbers, or"
                " 'data.labels={false: O, true: X}'. A Parquet file that datasets writes from"
                " ClassLabel columns has the names itself",
            )  # fmt: skip
        if names is None or not (isinstance(self.named, Mapping) or len(numbers) == len(given)):
            return table
        table, faulty = classes.renamed(
            table, names, self.named, source=bad.source, applied=self.mapping
        )
        return drop(table, faulty, bad)

    def notes(self) -> list[str]:
        return list(dict.fromkeys(self.reports))

    def class_names(self, table: pa.Table, own: list[str] | None) -> list[str]:
        """O, then all the tags of each type: a type may stand in validation as it did not here.

        Classes that data.labels names are these alone, and O.
        """
        scheme = self.kept_as or "bio"
        if self.model_classes is not None:
            return self.model_classes
        if self.named is not None:
            names = self._names(own) or []
            return names if scheme == "io" or {OUTSIDE, "o"} & set(names) else [*names, OUTSIDE]
        named = own or []
        found = {*named, *(classes.found(table) if "label" in table.column_names else ())}
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
        found = classes.found(table)
        if not set(found) - {OUTSIDE}:
            return "no word has a tag but O"
        return (
            f"every word has the tag {found[0]!r}"
            if (len(found) == 1 and self.kept_as == "io")
            else ""
        )

    def balance(self, table: pa.Table) -> dict[str, float]:
        """Tag → share of the rows that have it."""
        return classes.shares(table)


def _check_count(table: pa.Table, source: str) -> None:
    """DataError where the tags are about as many as the words."""
    found, words = classes.found(table), len(pc.list_flatten(table.column("label")))
    if len(found) > _TAGS_AT_MOST and _WORDS_PER_TAG * len(found) > words:
        raise DataError(
            f"{len(found):,} different tags in {words:,} words ({', '.join(found[:3])}, …)",
            where=source,
            hint="Is data.label the column of the tags? If so, name them with data.labels",
        )  # fmt: skip


def _check_outside(tags: list[str], source: str) -> None:
    """DataError where a type is probably how the file writes that a word is in no entity."""
    other = next((tag for tag in tags if tag.strip("<>[]").casefold() in _OUTSIDE_NAMES), None)
    if other is not None and OUTSIDE not in tags and len(tags) > 1:
        raise DataError(
            f"the tags are types without a prefix, none is O, and one of them is {quoted(other)}:"
            " nothing says whether words with it are outside of entities", where=source,
            hint=f"Map each tag, as in 'data.labels={{{other}: O, ...}}', or set data.scheme=io if"
            f" {quoted(other)} is a type",
        )  # fmt: skip


def _check_shape(table: pa.Table, bad: BadRows) -> None:
    """DataError for a table with one word per row, in which no row is a sentence."""
    texts = pc.equal(table.column("step"), _TEXTS)
    sizes = pc.list_value_length(table.column("label")).filter(texts)
    alone, empty = pc.sum(pc.equal(sizes, 1)).as_py() or 0, bad.counts["empty text"]
    if len(sizes) >= _FEW and alone > _MOST * len(sizes):
        what = f"{alone:,} of {len(sizes):,} rows have one word and one tag"
    elif empty > max(_FEW, table.num_rows):
        what = f"{empty:,} of {table.num_rows + len(bad):,} rows have no text"
    else:
        return
    raise DataError(
        f"{what}: this looks like a table with one word per row", where=bad.source,
        hint="A row must be a sentence. Write a CoNLL file (one word and its tag per line, a blank"
        " line after each sentence) or JSON Lines with a list of words and a list of tags per"
        " sentence",
    )  # fmt: skip


def _read(rows: pa.Table, reading: Reading, bad: BadRows) -> pa.Table:
    """The rows whose tags can be read, with the tags to keep; the others go to ``bad``."""
    labels = rows.column("label").to_pylist()
    kept = np.ones(len(labels), dtype=bool)
    made: list[list[str]] = []
    for row, tags in enumerate(labels):
        try:
            made.append(reading.tags(tags))
        except Fault as fault:
            kept[row] = False
            given, at = rows.slice(row, 1).to_pylist()[0], fault.after
            word = given["text"][given["starts"][at] : given["stops"][at]]
            detail = fault.detail.replace("{word!r}", repr(word))
            bad.add(given["line"] + at * (given["step"] == _LINES), Fault(fault.reason, detail))
    rows = rows if kept.all() else rows.filter(pa.array(kept))
    if not reading.unchanged:
        place = rows.schema.get_field_index("label")
        field = rows.schema.field(place)
        rows = rows.set_column(place, field, pa.array(made, field.type))
    return rows.drop_columns("step")


def _tags(value: Any) -> list[str] | None:
    """The tags of a row; None where they are missing."""
    if isinstance(value, str):
        content = listed(value)
        if content is None and value.strip().startswith("[") and value.strip().endswith("]"):
            raise Fault(
                "tags are no list", "the tags are in brackets, but not a list as JSON or Python has"
            )
        value = value.split() if content is None else content
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
    if isinstance(value, str) and (content := _listed_words(value, tags)) is not None:
        value = content
    if isinstance(value, list):
        words = [_word(each, place, value) for place, each in enumerate(value)]
        if not words:
            raise Fault("empty text")
        return split_into.joined(words)
    text = text_of(value)
    if tags is None:
        return text, split_into.split(text)
    bounds = split_into.at_spaces(text, ascii_only=True)
    for other in (split_into.at_spaces(text), split_into.characters(text)):
        if len(bounds) != len(tags) == len(other):
            bounds = other
    return text, bounds


def _listed_words(text: str, tags: list[str] | None) -> list[str] | None:
    """The words of a list that ``text`` spells; None if it is plain text."""
    words = listed(text)
    if not words or not all(isinstance(word, str) and word for word in words):
        return None
    plain = tags is not None and len(tags) != len(words)
    return None if plain and len(tags or ()) == len(split_into.at_spaces(text, True)) else words


def _word(value: Any, place: int, words: list[Any]) -> str:
    after = place if isinstance(words, Stacked) else 0
    if not isinstance(value, str) or not value:
        raise Fault("empty word", f"word {place + 1} is {value!r}", after)
    try:
        return clean(value, "word")
    except Fault as fault:
        raise Fault(fault.reason, fault.detail, after) from None
