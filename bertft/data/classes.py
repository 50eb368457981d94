"""A label column as a whole: has it any label, which classes, and is each row's one of them.

A label of a file means the class of the same name, or of the same number (``1`` and ``1.0``).
A number means the class at that position only where data.labels lists the names in that order, or
where the names are transformers' LABEL_0, LABEL_1, … A mapping, data.labels={1: World, …}, says it
for any label.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertft.config.messages import nearest, quoted, shortened
from bertft.data.bad_rows import Fault
from bertft.data.labels import class_name, in_order, numeric
from bertft.errors import DataError, UsageError

__all__ = [
    "all_numbers", "found", "listed", "look_alikes", "mapped", "mapping_note", "missing",
    "multi_hot", "named_places", "placeholders", "renamed", "shares", "unlabelled",
    "without_repeats",
]  # fmt: skip

_SHOWN = 8
_DIFFERENCES = "case, white space or Unicode form"
_UNLABELLED = -1  # how public data sets write that a row has no label


def unlabelled(table: pa.Table, known: Collection[str | float] = ()) -> bool:
    """Whether no row has a label: all null, or all −1 as in public test sets.

    −1 is a label where it is one of those ``known`` from elsewhere.
    """
    values = table.column("label")
    if pa.types.is_list(values.type):
        return values.null_count == len(values)
    rest = pc.unique(values.drop_null()).to_pylist()
    return not rest or (all(map(_minus_one, rest)) and not any(map(_minus_one, known)))


def _minus_one(label: str | float) -> bool:
    try:
        return float(label) == -1
    except ValueError:
        return False


def missing(table: pa.Table) -> np.ndarray:
    """Which rows have no label, bool [rows]."""
    return table.column("label").is_null().to_numpy()


def found(table: pa.Table) -> list[str]:
    """The classes that occur, in order; of several spellings of one number, the shortest."""
    values = table.column("label")
    if pa.types.is_list(values.type):
        values = pc.list_flatten(values)
    spelled: dict[Decimal | str, str] = {}
    for name in pc.unique(values.drop_null()).to_pylist():
        key = _identity(name)
        spelled[key] = min(spelled.get(key, name), name, key=lambda each: (len(each), each))
    return in_order(spelled.values())


def shares(table: pa.Table) -> dict[str, float]:
    """Class → share of the rows that have it, once or more often. Labels must not be null."""
    values = table.column("label")
    if pa.types.is_list(values.type):
        owners, names = pc.list_parent_indices(values), pc.list_flatten(values)
        values = pa.table([owners, names], ["row", "name"]).group_by(["row", "name"]).aggregate([])
        values = values.column("name")
    counts = {each["values"]: each["counts"] for each in pc.value_counts(values).to_pylist()}
    return {name: counts[name] / table.num_rows for name in sorted(counts)}


def placeholders(names: Sequence[str]) -> bool:
    """Whether they are LABEL_0, LABEL_1, …, as transformers calls classes without names."""
    return bool(names) and list(names) == [f"LABEL_{number}" for number in range(len(names))]


def listed(labels: Any, where: str = "data.labels") -> list[str]:
    """The class names of data.labels, in order: of a list, or what a mapping maps to.

    UsageError, naming the setting ``where``, for an empty name, a name that a list has twice (the
    classes after it would be shifted), and a mapping of one label to two classes.
    """
    if isinstance(labels, Mapping):
        return list(dict.fromkeys(mapped(labels, where).values()))
    names = [_given_name(each, where) for each in labels]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(
            f"lists the class {quoted(twice)} twice", where=where,
            hint="Name each class once, in order; a mapping {label: name} joins classes",
        )  # fmt: skip
    return names


def mapped(labels: Mapping[Any, Any], where: str = "data.labels") -> dict[str, str]:
    """A mapping of data.labels: label of a file → class. UsageError as of ``listed``."""
    found: dict[str, str] = {}
    seen: dict[Decimal | str, str] = {}
    for key, value in labels.items():
        label, name = _given_name(key, where), _given_name(value, where)
        if seen.setdefault(_identity(label), name) != name:
            raise UsageError(
                f"maps the label {quoted(label)} to {quoted(seen[_identity(label)])} and to"
                f" {quoted(name)}", where=where, hint="Give each label one class",
            )  # fmt: skip
        found[label] = name
    return found


def _given_name(value: Any, where: str) -> str:
    try:
        name = class_name(value)
    except Fault:
        name = None
    if name is None:
        raise UsageError(
            f"{quoted(value)} is not the name of a class", where=where,
            hint="Give text that is not empty, a number, or true or false",
        )  # fmt: skip
    return name


def _identity(name: str) -> Decimal | str:
    """What two spellings of one number have in common; of any other name the name."""
    number = numeric(name)
    return name if number is None else number


def multi_hot(table: pa.Table) -> int | None:
    """The number of places where every label is a list of that many 0 and 1; None: they are not."""
    values = table.column("label").drop_null()
    sizes = pc.unique(pc.list_value_length(values)).to_pylist()
    if len(sizes) != 1 or sizes[0] < 2:
        return None
    names = pc.unique(pc.list_flatten(values)).to_pylist()
    return int(sizes[0]) if all(_bit(name) is not None for name in names) else None


def all_numbers(table: pa.Table) -> bool:
    """Whether every item of the lists of labels is a number, true or false."""
    names = pc.unique(pc.list_flatten(table.column("label"))).to_pylist()
    return all(numeric(name) is not None or _bit(name) is not None for name in names)


def named_places(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """Lists of 0 and 1, one for each of ``names`` → lists of the names that have a 1."""
    values = table.column("label").combine_chunks()
    if isinstance(values, pa.ChunkedArray):
        values = pa.concat_arrays(values.chunks)
    flat = values.flatten().to_pylist()
    bits = np.fromiter((bool(_bit(each)) for each in flat), bool, len(flat))
    valid = values.is_valid().to_numpy(zero_copy_only=False)
    grid = np.zeros((len(values), len(names)), dtype=bool)
    grid[valid] = bits.reshape(-1, len(names))
    offsets = np.concatenate([[0], np.cumsum(grid.sum(1))]).astype(np.int32)
    flat_names = pa.array(names, pa.string()).take(pa.array(np.nonzero(grid)[1]))
    column = pa.ListArray.from_arrays(pa.array(offsets), flat_names, mask=pa.array(~valid))
    return _with_label(table, column)


def without_repeats(table: pa.Table) -> pa.Table:
    """Every list of labels with each name once."""
    values = table.column("label")
    pairs = pa.table([pc.list_parent_indices(values), pc.list_flatten(values)], ["row", "name"])
    if pairs.group_by(["row", "name"]).aggregate([]).num_rows == pairs.num_rows:
        return table
    rows = [None if row is None else list(dict.fromkeys(row)) for row in values.to_pylist()]
    return _with_label(table, pa.array(rows, values.type))


def mapping_note(mapping: Mapping[str, str]) -> str:
    """What labels were read as, in one line; empty where every label is a class by its text."""
    shown = [
        f"{shortened(label, 30)} = {shortened(name, 30)}"
        for label, name in list(mapping.items())[:_SHOWN]
    ]
    more = f", … ({len(mapping)} labels)" if len(mapping) > _SHOWN else ""
    return f"labels of the files read as classes: {', '.join(shown)}{more}" if mapping else ""


def renamed(
    table: pa.Table,
    names: Sequence[str],
    labels: Any = None,
    *,
    source: str = "",
    training: bool = False,
    applied: dict[str, str] | None = None,
) -> tuple[pa.Table, list[tuple[np.ndarray, Fault]]]:
    """The table with every label one of ``names``, and masks of the rows where it is not.

    ``labels`` is data.labels as the user gave it: a list says which class each number means, a
    mapping which class each label means. What labels were read as another text goes to
    ``applied``. Labels must not be null. DataError where all labels are numbers and the classes
    are names (or the reverse) and nothing says which is which.
    """
    values = table.column("label")
    is_list = pa.types.is_list(values.type)
    given = pc.unique(pc.list_flatten(values) if is_list else values).to_pylist()
    if set(given) <= set(names) and not isinstance(labels, Mapping):
        return table, []
    meaning = _meanings(given, names, labels, source, training)
    if applied is not None:
        for each in in_order(meaning):
            if (name := meaning[each]) not in (None, each):
                applied[each] = name
    column = values.combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    flat = column.flatten() if is_list else column
    encoded = flat.dictionary_encode()
    codes = encoded.indices.to_numpy()
    spelled = encoded.dictionary.to_pylist()
    known = [meaning[each] for each in spelled]
    faulty = []
    for code, name in enumerate(known):
        if name is None:
            mask = codes == code
            if is_list:
                rows = np.repeat(np.arange(len(column)), pc.list_value_length(column).to_numpy())
                mask = np.bincount(rows[mask], minlength=len(column)) > 0
            faulty.append((mask, _unknown(spelled[code], names)))
    array = pa.array(known, pa.string()).take(encoded.indices)
    if is_list:
        sizes = pc.list_value_length(column).to_numpy()
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
        array = pa.ListArray.from_arrays(pa.array(offsets), array)
    return _with_label(table, array), faulty


def _meanings(
    given: Sequence[str], names: Sequence[str], labels: Any, source: str, training: bool
) -> dict[str, str | None]:
    """Label of the file → class, None where it is none."""
    classes = _Index(names)
    meaning: dict[str, str | None] = {}
    if isinstance(labels, Mapping):
        target = mapped(labels)
        keys = _Index(target)
        for each in given:
            key = keys.find(each)
            meaning[each] = classes.find(each if key is None else target[key])
        return meaning
    meaning = {each: classes.find(each) for each in given}
    if not names or any(name is not None for name in meaning.values()):
        return meaning
    numbers = {each: numeric(each) for each in given}
    whole = all(number is not None and number == int(number) for number in numbers.values())
    if given and whole and not classes.numbers:
        order = names if labels is None else listed(labels)
        if labels is None and not placeholders(names):
            raise _numbers_for_names(given, names, source)
        positions = {
            each: int(number)
            for each, number in numbers.items()
            if number is not None and number != _UNLABELLED
        }
        _check_positions(positions, order, source, training)
        return meaning | {each: classes.find(order[place]) for each, place in positions.items()}
    if len(classes.numbers) == len(names) and all(each is None for each in numbers.values()):
        raise DataError(
            f"the labels are {_listing(given)}, the classes are the numbers {_listing(names)}",
            where=source or None,
            hint="List the names in the order of the numbers,"
            " data.labels=[<class of 0>,<class of 1>,...], or map each number to its name,"
            f" data.labels={{{names[0]}: <class>, ...}}",
        )  # fmt: skip
    return meaning


def _numbers_for_names(given: Sequence[str], names: Sequence[str], source: str) -> DataError:
    return DataError(
        f"the labels are the numbers {_listing(in_order(given))}, the classes are"
        f" {_listing(names)}: nothing says which class a number is",
        where=source or None,
        hint="List the names in the order of the numbers,"
        " data.labels=[<class of 0>,<class of 1>,...], or map each number to its name,"
        f" data.labels={{{in_order(given)[0]}: <class>, ...}}",
    )  # fmt: skip


def _check_positions(
    positions: Mapping[str, int], order: Sequence[str], source: str, training: bool
) -> None:
    """DataError where the numbers do not count ``order`` from 0: they would be shifted."""
    numbers = set(positions.values())
    outside = sorted(number for number in numbers if not 0 <= number < len(order))
    if not outside and (0 in numbers or not training):
        return
    what = (
        f"the number {outside[0]} is none of 0 to {len(order) - 1}"
        if outside
        else "0 does not occur"
    )
    first = min(numbers, default=0)
    raise DataError(
        f"the labels are the numbers {_listing(in_order(positions))}; the"
        f" {len(order)} names {_listing(order)} are those of 0 to {len(order) - 1}, but {what}",
        where=source or None,
        hint=f"Map each number to its name, as in 'data.labels={{{first}: {order[0]}, ...}}'",
    )


class _Index:
    """Names by their text and by the number that they are."""

    def __init__(self, names: Iterable[str]) -> None:
        self.texts = dict.fromkeys(names)
        found = [(numeric(name), name) for name in self.texts]
        counts = Counter(number for number, _ in found)
        # Of names such as 1.1 and 1.10, the number does not say which is meant.
        self.numbers = {
            number: name for number, name in found if number is not None and counts[number] == 1
        }

    def find(self, label: str) -> str | None:
        if label in self.texts:
            return label
        number = numeric(label)
        return None if number is None else self.numbers.get(number)


def _bit(name: str) -> bool | None:
    """What a place of a multi-hot list says; None where it is neither 0 nor 1."""
    if name in ("true", "false"):
        return name == "true"
    number = numeric(name)
    return bool(number) if number in (0, 1) else None


def _with_label(table: pa.Table, column: pa.Array) -> pa.Table:
    place = table.schema.get_field_index("label")
    return table.set_column(place, pa.field("label", column.type), column)


def _unknown(label: str, names: Sequence[str]) -> Fault:
    near = nearest(label, names)
    hint = f"; did you mean {quoted(near)}?" if near is not None else ""
    same = next((name for name in names if _simplified(name) == _simplified(label)), None)
    if same is not None:
        hint = f"; {quoted(same)} differs from it only in {_DIFFERENCES}"
    if placeholders(names):
        hint = "; these are placeholders: name the model's classes with data.labels=[...]"
    return Fault("unknown label", f"the label {quoted(label)} is none of {_listing(names)}{hint}")


def look_alikes(names: Iterable[str]) -> str:
    """A remark on classes that are probably meant to be one; empty where there are none."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_simplified(name), []).append(name)
    pairs = [sorted(group) for group in groups.values() if len(group) > 1]
    if not pairs:
        return ""
    shown = "; ".join(" and ".join(map(ascii, pair[:3])) for pair in pairs[:3])
    more = f"; … ({len(pairs)} in all)" if len(pairs) > 3 else ""
    return (
        f"classes that differ only in {_DIFFERENCES}: {shown}{more}."
        " If they are one, map them: data.labels={<label>: <class>, ...}"
    )


@lru_cache(maxsize=4096)
def _simplified(name: str) -> str:
    """A name without its case, extra white space, Unicode form and invisible characters."""
    text = unicodedata.normalize("NFKC", name).casefold()
    text = "".join(each for each in text if unicodedata.category(each) != "Cf")
    return unicodedata.normalize("NFKC", " ".join(text.split()))


def _listing(names: Sequence[str]) -> str:
    more = ", …" if len(names) > _SHOWN else ""
    return ", ".join(quoted(name) for name in names[:_SHOWN]) + more
