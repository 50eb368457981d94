"""A label column as a whole: has it any label, which classes, and is each row's one of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertft.data.bad_rows import Fault
from bertft.data.labels import in_order

__all__ = ["found", "missing", "renamed", "shares", "unlabelled"]

_SHOWN = 10


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
    """The classes that occur, in order."""
    values = table.column("label")
    if pa.types.is_list(values.type):
        values = pc.list_flatten(values)
    return in_order(pc.unique(values.drop_null()).to_pylist())


def shares(table: pa.Table) -> dict[str, float]:
    """Class → share of the rows that have it, once or more often. Labels must not be null."""
    values = table.column("label")
    if pa.types.is_list(values.type):
        owners, names = pc.list_parent_indices(values), pc.list_flatten(values)
        values = pa.table([owners, names], ["row", "name"]).group_by(["row", "name"]).aggregate([])
        values = values.column("name")
    counts = {each["values"]: each["counts"] for each in pc.value_counts(values).to_pylist()}
    return {name: counts[name] / table.num_rows for name in sorted(counts)}


def renamed(
    table: pa.Table, names: Sequence[str]
) -> tuple[pa.Table, list[tuple[np.ndarray, Fault]]]:
    """The table with every label one of ``names``, and masks of the rows where it is not.

    Rows that count their classes (0, 1, …) get the names in order, unless names are numbers
    themselves. Labels must not be null.
    """
    values = table.column("label")
    listed = pa.types.is_list(values.type)
    there = pc.unique(pc.list_flatten(values) if listed else values).to_pylist()
    if set(there) <= set(names):  # as they stand: nothing is copied
        return table, []
    column = values.combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    flat = column.flatten() if listed else column
    encoded = flat.dictionary_encode()
    codes = encoded.indices.to_numpy()
    counted = {str(place): name for place, name in enumerate(names)}
    if counted.keys() & set(names):
        counted = {}
    given = encoded.dictionary.to_pylist()
    known = [name if name in names else counted.get(name) for name in given]
    faulty = []
    for code, name in enumerate(known):
        if name is None:
            mask = codes == code
            if listed:
                rows = np.repeat(np.arange(len(column)), pc.list_value_length(column).to_numpy())
                mask = np.bincount(rows[mask], minlength=len(column)) > 0
            faulty.append((mask, _unknown(given[code], names)))
    values = pa.array(known, pa.string()).take(encoded.indices)
    if listed:
        sizes = pc.list_value_length(column).to_numpy()
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
        values = pa.ListArray.from_arrays(pa.array(offsets), values)
    place = table.schema.get_field_index("label")
    return table.set_column(place, pa.field("label", values.type), values), faulty


def _unknown(label: str, names: Sequence[str]) -> Fault:
    listing = ", ".join(map(repr, names[:_SHOWN])) + (", …" if len(names) > _SHOWN else "")
    return Fault("unknown label", f"the label {label!r} is none of {listing}")
