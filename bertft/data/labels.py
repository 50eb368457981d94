"""Labels: convert label values of files to class names, and check whole label columns.

A label is matched with the class of the same name, or of an equal number (``1`` and ``1.0``).
A number is the position of a class only if data.labels lists the names in that order, or if the
names are the LABEL_0, LABEL_1, … of transformers. A mapping, data.labels={1: World, …}, gives the
class of any label.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
import weakref
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertft.config.values import NUMBER_PATTERN
from bertft.data.rows import RowError
from bertft.errors import DataError, UsageError
from bertft.utils.messages import closest_name, describe_value, quote_value, shorten

__all__ = [
    "NOT_BINARY",
    "NOT_NUMERIC",
    "are_placeholder_names",
    "class_name_as_number",
    "class_shares",
    "configured_class_names",
    "configured_label_mapping",
    "distinct_labels",
    "format_mapping_note",
    "format_similar_names",
    "is_unlabelled",
    "map_labels_to_classes",
    "missing_label_mask",
    "observed_classes",
    "plain_number",
    "replace_label_column",
    "sort_class_names",
    "to_class_name",
    "unwrap_choices",
]

# Signs of currencies or their codes, groups of digits with separators, a percent sign.
_CURRENCY = r"(?:[^\W\d_]{0,3}\s?[$€£¥₹₩₽]|[A-Z]{3})"
_WRITTEN_NUMBER = re.compile(
    rf"(?P<sign>[-+−]?)(?:{_CURRENCY}\s?)?(?P<digits>\d[\d.,\s']*)(?:\s?(?:{_CURRENCY}|%))?"
)
NOT_NUMERIC = "label is not a number"
NOT_BINARY = "label is not 0 or 1"
_MAX_SHOWN = 8
_DIFFERENCES = "case, white space or Unicode form"
_MAX_KEPT = 1_000
_few_labels_of_tables: dict[int, list[Any]] = {}  # by id
_NO_LABEL = -1  # marks rows without a label in public data sets


def to_class_name(value: Any) -> str | None:
    """A class name: text without surrounding white space; numbers and booleans as in JSON."""
    if isinstance(value, str):
        return value.strip() or None
    if value is None or isinstance(value, bool):
        return None if value is None else str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if math.isnan(value):
            return None
        if math.isinf(value):
            raise RowError("label is not finite", f"the label is {value}, not a finite number")
        return str(int(value)) if value.is_integer() else repr(value)
    raise RowError(
        "label is not text or a number",
        f"the label is {describe_value(value)}, not text or a number",
    )


def unwrap_choices(value: Any) -> Any:
    """The list in ``{"choices": ["a", "b"]}``, as Label Studio's JSON-MIN and CSV write it.

    Any other value is returned unchanged.
    """
    content = value
    if isinstance(value, str) and value.lstrip().startswith('{"choices"'):
        try:
            content = json.loads(value)
        except (ValueError, RecursionError):
            return value
    is_choices = isinstance(content, Mapping) and list(content) == ["choices"]
    return content["choices"] if is_choices and isinstance(content["choices"], list) else value


def plain_number(text: str) -> str | None:
    """The number in a price, a percentage or a number with separators, as ``float`` reads it.

    ``$1,234.50`` gives ``1234.50`` and ``3,5`` gives ``3.5``. None for any other text, also for a
    number that is already plain. Of commas and points, the last is the decimal separator; a comma
    before three digits separates thousands.
    """
    match = _WRITTEN_NUMBER.fullmatch(text.strip())
    if match is None:
        return None
    digits = re.sub(r"[\s']", "", match["digits"])
    is_decimal_comma = digits.rfind(",") > digits.rfind(".") and (
        "." in digits or not re.search(r",\d{3}$", digits)
    )
    if is_decimal_comma:
        digits = digits.replace(".", "").replace(",", ".")
    plain = match["sign"].replace("−", "-") + digits.replace(",", "")
    return None if plain.count(".") > 1 or plain == text.strip() else plain


def class_name_as_number(name: str) -> Decimal | None:
    """The value of a numeric class name (``1``, ``1.0`` and ``1e0`` are equal), else None."""
    return Decimal(name) if NUMBER_PATTERN.fullmatch(name) else None


def _comparison_key(name: str) -> Decimal | str:
    """The value of a numeric name, so that its spellings compare equal; else the name."""
    number = class_name_as_number(name)
    return name if number is None else number


def sort_class_names(names: Iterable[str]) -> list[str]:
    """Sort names: as numbers if all of them are numbers, else as text."""
    names = set(names)
    try:
        values = {name: float(name) for name in names}
    except ValueError:
        return sorted(names)
    if not all(map(math.isfinite, values.values())):
        return sorted(names)
    return sorted(names, key=lambda name: (values[name], name))


def is_unlabelled(table: pa.Table, known: Collection[str | float] = ()) -> bool:
    """Whether no row has a label: all null, or all −1 as in public test sets.

    −1 is a label if it is one of the ``known`` labels.
    """
    values = table.column("label")
    if pa.types.is_list(values.type):
        return values.null_count == len(values)
    distinct = distinct_labels(table)
    return not distinct or (
        all(map(_is_no_label_marker, distinct)) and not any(map(_is_no_label_marker, known))
    )


def _is_no_label_marker(label: str | float) -> bool:
    try:
        return float(label) == _NO_LABEL
    except ValueError:
        return False


def distinct_labels(table: pa.Table) -> list[Any]:
    """The different labels in the order in which they occur, also those in lists, without null.

    Loading a data set needs them several times, so that a few are kept as long as their table.
    """
    key = id(table)
    if key in _few_labels_of_tables:
        return list(_few_labels_of_tables[key])
    values = table.column("label")
    if pa.types.is_list(values.type):
        values = pc.list_flatten(values)
    distinct: list[Any] = pc.unique(values.drop_null()).to_pylist()
    if len(distinct) <= _MAX_KEPT:
        _few_labels_of_tables[key] = distinct
        weakref.finalize(table, _few_labels_of_tables.pop, key, None)
    return list(distinct)


def missing_label_mask(table: pa.Table) -> np.ndarray:
    """Which rows have no label, bool [rows]."""
    return table.column("label").is_null().to_numpy()


def observed_classes(table: pa.Table) -> list[str]:
    """The sorted classes that occur; for several spellings of a number, the shortest."""
    shortest_spelling: dict[Decimal | str, str] = {}
    for name in distinct_labels(table):
        key = _comparison_key(name)
        shortest_spelling[key] = min(
            shortest_spelling.get(key, name), name, key=lambda text: (len(text), text)
        )
    return sort_class_names(shortest_spelling.values())


def class_shares(table: pa.Table) -> dict[str, float]:
    """Class → fraction of the rows that have it at least once. Labels must not be null."""
    values = table.column("label")
    if pa.types.is_list(values.type):
        row_numbers, names = pc.list_parent_indices(values), pc.list_flatten(values)
        values = (
            pa.table([row_numbers, names], ["row", "name"]).group_by(["row", "name"]).aggregate([])
        )
        values = values.column("name")
    counts = {entry["values"]: entry["counts"] for entry in pc.value_counts(values).to_pylist()}
    return {name: counts[name] / table.num_rows for name in sorted(counts)}


def configured_class_names(labels: Any, where: str = "data.labels") -> list[str]:
    """The class names of data.labels, in order: the list, or the values of the mapping.

    Raises UsageError, with the setting ``where``, for an empty name, a name that a list repeats
    (the classes after it would be shifted), and a mapping of one label to two classes.
    """
    if isinstance(labels, Mapping):
        return list(dict.fromkeys(configured_label_mapping(labels, where).values()))
    names = [_configured_name(label, where) for label in labels]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise UsageError(
            f"lists the class {quote_value(repeated)} twice",
            where=where,
            hint="List each class once, in order, or use a mapping {label: name} to merge classes",
        )
    return names


def configured_label_mapping(
    labels: Mapping[Any, Any], where: str = "data.labels"
) -> dict[str, str]:
    """Label of a file → class, if data.labels is a mapping.

    Raises UsageError as ``configured_class_names`` does.
    """
    class_by_label: dict[str, str] = {}
    seen: dict[Decimal | str, str] = {}
    for key, value in labels.items():
        label, name = _configured_name(key, where), _configured_name(value, where)
        if seen.setdefault(_comparison_key(label), name) != name:
            raise UsageError(
                f"maps the label {quote_value(label)} to"
                f" {quote_value(seen[_comparison_key(label)])} and to"
                f" {quote_value(name)}",
                where=where,
                hint="Map each label to one class",
            )
        class_by_label[label] = name
    return class_by_label


def _configured_name(value: Any, where: str) -> str:
    try:
        name = to_class_name(value)
    except RowError:
        name = None
    if name is None:
        raise UsageError(
            f"{quote_value(value)} is not a class name",
            where=where,
            hint="Use non-empty text, a number, true or false",
        )
    return name


def are_placeholder_names(names: Sequence[str]) -> bool:
    """Whether the names are LABEL_0, LABEL_1, …, the placeholders of transformers."""
    return bool(names) and list(names) == [f"LABEL_{number}" for number in range(len(names))]


def map_labels_to_classes(
    table: pa.Table,
    names: Sequence[str],
    labels: Any = None,
    *,
    source: str = "",
    training: bool = False,
    applied: dict[str, str] | None = None,
) -> tuple[pa.Table, list[tuple[np.ndarray, RowError]]]:
    """Map labels, which must not be null, to the class ``names``.

    Args:
        labels: data.labels as configured. A list gives the class of each number, a mapping the
            class of each label.
        training: whether these are the training rows, whose numbers must start at 0.
        applied: labels that are changed are added to it, with their class.

    Returns:
        The table, and pairs of a mask, bool [rows], and the error of the rows in it.

    Raises:
        DataError: all labels are numbers and the classes are names (or the reverse), and
            data.labels does not map them.
    """
    values = table.column("label")
    is_list = pa.types.is_list(values.type)
    observed = distinct_labels(table)
    if set(observed) <= set(names) and not isinstance(labels, Mapping):
        return table, []
    class_by_label = _map_labels(observed, names, labels, source, training)
    if applied is not None:
        for label in sort_class_names(class_by_label):
            if (name := class_by_label[label]) not in (None, label):
                applied[label] = name
    column = values.combine_chunks()
    encoded = (column.flatten() if is_list else column).dictionary_encode()
    codes = encoded.indices.to_numpy()
    labels_of_codes = encoded.dictionary.to_pylist()
    class_of_code = [class_by_label[label] for label in labels_of_codes]
    mapped = pa.array(class_of_code, pa.string()).take(encoded.indices)
    masked_errors = []
    sizes = pc.list_value_length(column).to_numpy() if is_list else None
    for code, label in enumerate(labels_of_codes):
        if class_of_code[code] is None:
            mask = codes == code
            if sizes is not None:
                row_of_value = np.repeat(np.arange(len(column)), sizes)
                mask = np.bincount(row_of_value[mask], minlength=len(column)) > 0
            masked_errors.append((mask, _unknown_label_error(label, names)))
    if sizes is not None:
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
        mapped = pa.ListArray.from_arrays(pa.array(offsets), mapped)
    return replace_label_column(table, mapped), masked_errors


def _map_labels(
    observed: Sequence[str], names: Sequence[str], labels: Any, source: str, training: bool
) -> dict[str, str | None]:
    """Label of the file → class; None for an unknown label."""
    classes = _ClassNameIndex(names)
    class_by_label: dict[str, str | None] = {}
    if isinstance(labels, Mapping):
        target = configured_label_mapping(labels)
        keys = _ClassNameIndex(target)
        for label in observed:
            key = keys.find(label)
            class_by_label[label] = classes.find(label if key is None else target[key])
        return class_by_label
    class_by_label = {label: classes.find(label) for label in observed}
    if not names or any(name is not None for name in class_by_label.values()):
        return class_by_label
    numbers = {label: class_name_as_number(label) for label in observed}
    all_integers = all(number is not None and number == int(number) for number in numbers.values())
    if observed and all_integers and not classes.numbers:
        order = names if labels is None else configured_class_names(labels)
        if labels is None and not are_placeholder_names(names):
            raise _ambiguous_numbers_error(observed, names, source)
        positions = {
            label: int(number)
            for label, number in numbers.items()
            if number is not None and number != _NO_LABEL
        }
        origin = "classes of the model" if labels is None else "names of data.labels"
        _check_positions(positions, order, origin, source, training)
        return class_by_label | {
            label: classes.find(order[position]) for label, position in positions.items()
        }
    if len(classes.numbers) == len(names) and all(number is None for number in numbers.values()):
        raise DataError(
            f"the labels are {_format_names(observed)}, but the classes are the numbers"
            f" {_format_names(names)}",
            where=source or None,
            hint=f"Map each label to a class, 'data.labels={{<label>: {names[0]}, ...}}', or in"
            " training, name the classes in the order of the numbers,"
            " data.labels=[<class of 0>,<class of 1>,...]",
        )
    return class_by_label


class _ClassNameIndex:
    """Finds names by text, or by the value of numeric names."""

    def __init__(self, names: Iterable[str]) -> None:
        self.texts = dict.fromkeys(names)
        number_names = [(class_name_as_number(name), name) for name in self.texts]
        counts = Counter(number for number, _ in number_names)
        # Names such as 1.1 and 1.10 have the same value and are found only by text.
        self.numbers = {
            number: name
            for number, name in number_names
            if number is not None and counts[number] == 1
        }

    def find(self, label: str) -> str | None:
        if label in self.texts:
            return label
        number = class_name_as_number(label)
        return None if number is None else self.numbers.get(number)


def _ambiguous_numbers_error(
    observed: Sequence[str], names: Sequence[str], source: str
) -> DataError:
    return DataError(
        f"the labels are the numbers {_format_names(sort_class_names(observed))}, but the classes"
        f" are {_format_names(names)}: the class of each number is unknown",
        where=source or None,
        hint="List the names in the order of the numbers,"
        " data.labels=[<class of 0>,<class of 1>,...], or map each number to its name,"
        f" 'data.labels={{{sort_class_names(observed)[0]}: <class>, ...}}'",
    )


def _check_positions(
    positions: Mapping[str, int], order: Sequence[str], origin: str, source: str, training: bool
) -> None:
    """Raise DataError if the numbers are not positions in ``order``, counted from 0.

    ``origin``: what ``order`` is, in messages.
    """
    numbers = set(positions.values())
    outside = sorted(number for number in numbers if not 0 <= number < len(order))
    if not outside and (0 in numbers or not training):
        return
    shown = ", ".join(sort_class_names(positions)[:_MAX_SHOWN])
    more = ", …" if len(positions) > _MAX_SHOWN else ""
    problem = f"{outside[0]} has no name" if outside else "0 does not occur"
    lowest = min(numbers, default=0)
    raise DataError(
        f"the labels are {shown}{more}, but the {len(order)} {origin} are for 0 to"
        f" {len(order) - 1}: {problem}",
        where=source or None,
        hint=f"Map each number to its name, as in 'data.labels={{{lowest}: {order[0]}, ...}}'",
    )


def _unknown_label_error(label: str, names: Sequence[str]) -> RowError:
    closest = closest_name(label, names)
    hint = f"; did you mean {quote_value(closest)}?" if closest is not None else ""
    same = next((name for name in names if _normalize_name(name) == _normalize_name(label)), None)
    if same is not None:
        hint = f"; {quote_value(same)} differs from it only in {_DIFFERENCES}"
    if are_placeholder_names(names):
        hint = "; these are placeholders: set data.labels=[...] to the names of the model's classes"
    return RowError(
        "unknown label",
        f"the label {quote_value(label)} is not one of {_format_names(names)}{hint}",
    )


def replace_label_column(table: pa.Table, column: pa.Array) -> pa.Table:
    """The table with ``column`` in place of its labels, also of another type."""
    column_index = table.schema.get_field_index("label")
    return table.set_column(column_index, pa.field("label", column.type), column)


def format_mapping_note(mapping: Mapping[str, str]) -> str:
    """The labels that are mapped to other names, in one line; empty if there are none."""
    shown = [
        f"{shorten(label, 30)} → {shorten(name, 30)}"
        for label, name in list(mapping.items())[:_MAX_SHOWN]
    ]
    more = f", … ({len(mapping)} labels)" if len(mapping) > _MAX_SHOWN else ""
    return f"labels mapped to classes: {', '.join(shown)}{more}" if mapping else ""


def format_similar_names(names: Iterable[str]) -> str:
    """A note about classes that are probably the same; empty if there are none."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_normalize_name(name), []).append(name)
    similar_names = [sorted(group) for group in groups.values() if len(group) > 1]
    if not similar_names:
        return ""
    shown = "; ".join(" and ".join(map(ascii, group[:3])) for group in similar_names[:3])
    more = f"; … ({len(similar_names)} in all)" if len(similar_names) > 3 else ""
    return (
        f"classes that differ only in {_DIFFERENCES}: {shown}{more}."
        " If they are the same class, set 'data.labels={<label>: <class>, ...}'"
    )


@lru_cache(maxsize=4096)
def _normalize_name(name: str) -> str:
    """Normalize case, white space, Unicode form and invisible characters."""
    text = unicodedata.normalize("NFKC", name).casefold()
    text = "".join(character for character in text if unicodedata.category(character) != "Cf")
    return unicodedata.normalize("NFKC", " ".join(text.split()))


def _format_names(names: Sequence[str]) -> str:
    more = ", …" if len(names) > _MAX_SHOWN else ""
    return ", ".join(quote_value(name) for name in names[:_MAX_SHOWN]) + more
