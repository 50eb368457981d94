"""``Rows``: the rows of one split, with the location of each in its file.

A selection of rows has indices into the table, not a copy of it: the table of a large file is
memory-mapped, and a selection takes four bytes per row.
"""

from __future__ import annotations

import bisect
import copy
import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from bertft.errors import DataError, limit_length

__all__ = [
    "UNDECODABLE",
    "BadRows",
    "RowError",
    "RowExclusion",
    "Rows",
    "bad_rows_hint",
    "check_skipped_share",
    "decode_line",
    "drop_rows",
    "encode_line",
    "format_accounting",
    "format_location",
    "format_reasons",
    "raise_or_skip",
]
UNDECODABLE = "bytes that are not valid in the encoding"
_MAX_SHOWN = 5
_CHUNK_ROWS = 65_536
_COPY_BELOW_SHARE = 1 / 8  # of the rows of the table
# Key in the row cache: (attribute of BadRows, type of the JSON value).
_JSON_FIELDS = {
    "counts": ("counts", dict),
    "first": ("first_errors", list),
    "hints": ("hints", dict),
    "read": ("read", int),
    "blank": ("blank_lines", int),
    "other_lines": ("other_lines", dict),
    "notes": ("notes", list),
    "dropped": ("dropped", dict),
    "excluded": ("excluded", dict),
}
_ENCODING_HINT = "If the file has another encoding, set data.encoding (gb18030, cp1252, …)"


class RowError(Exception):
    """An invalid row: ``reason`` is counted, ``detail`` is shown.

    ``line_offset``: lines below the first line of the row. ``hint``: an action that may help, shown
    once for all rows with the reason.
    """

    def __init__(
        self, reason: str, detail: str | None = None, line_offset: int = 0, hint: str | None = None
    ) -> None:
        super().__init__(detail or reason)
        self.reason, self.detail, self.line_offset = reason, detail or reason, line_offset
        self.row_id: str | None = None  # the value of the column id, if it could be parsed
        self.hint = _ENCODING_HINT if reason == UNDECODABLE else hint


class RowExclusion(Exception):
    """A row that the file marks as not to be used, such as one that an annotator rejected."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


_LINE_BITS = 40


def encode_line(line: int, file_index: int) -> int:
    """The number of a row: its line, and above the lower 40 bits the number of its file.

    Numbers increase in the order of the rows. In the first file, the number is the line.
    """
    return (file_index << _LINE_BITS) + line


def decode_line(number: int) -> tuple[int, int]:
    """(line, file index); the inverse of ``encode_line``."""
    return number & ((1 << _LINE_BITS) - 1), number >> _LINE_BITS


def format_location(source: str, line: int, unit: str = "") -> str:
    """``source:line``; for rows that are not lines, "source, ``unit`` line"."""
    return f"{source}, {unit} {line}" if unit else f"{source}:{line}"


@dataclass
class BadRows:
    """The accounting of one source: every row that is read is used, skipped or excluded.

    For a text file, lines = ``read`` + ``blank_lines`` + Σ ``other_lines``.

    Attributes:
        source: a path, a Hub id or the name of a sample.
        unit: what the numbers of rows count, if not lines.
        files: name and unit of each file, if there are several. A row then has the number of
            ``encode_line``.
        counts: invalid rows by reason.
        first_errors: (line, detail) of the first five invalid rows.
        hints: by reason, an action that may help.
        read: rows that the reader found, valid or not.
        blank_lines: blank lines, which are not rows.
        other_lines: other lines that do not start a row, by kind (header, continued: inside a
            quoted field, ...).
        dropped: ignored values of rows that are used, by reason.
        excluded: rows that the file marks as not to be used, by reason. They are not invalid.
        notes: notes of the reader for the user.
    """

    source: str
    unit: str = ""
    files: tuple[tuple[str, str], ...] = ()
    counts: Counter[str] = field(default_factory=Counter)
    first_errors: list[tuple[int, str]] = field(default_factory=list)
    hints: dict[str, str] = field(default_factory=dict)
    read: int = 0
    blank_lines: int = 0
    other_lines: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    excluded: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def add(self, line: int, error: RowError) -> None:
        """Count the invalid row that starts on ``line``."""
        self.counts[error.reason] += 1
        if error.hint is not None:
            self.hints.setdefault(error.reason, error.hint)
        if len(self.first_errors) < _MAX_SHOWN or line < self.first_errors[-1][0]:
            bisect.insort(self.first_errors, (line, limit_length(error.detail)))
            del self.first_errors[_MAX_SHOWN:]

    def location(self, number: int) -> str:
        """``file:line`` of the row with this number."""
        if not self.files:
            return format_location(self.source, number, self.unit)
        line, file_index = decode_line(number)
        name, unit = self.files[file_index]
        return format_location(name, line, unit)

    def check_row_counts(self, used: int) -> None:
        """Check that every row was used, skipped or excluded; a reader may not count its rows.

        Raises RuntimeError, a bug, if a row was lost or duplicated.
        """
        counted = used + len(self) + self.excluded.total()
        if not self.read:
            self.read = counted
        if self.read != counted:
            raise RuntimeError(
                f"{self.source}: {self.read:,} rows read, but {used:,} used, {len(self):,} skipped"
                f" and {self.excluded.total():,} excluded: rows are not conserved"
            )

    def count_row(self, rows: int = 1) -> None:
        """Count ``rows`` rows that the reader found, valid or not."""
        self.read += rows

    def count_blank(self) -> None:
        """Count a blank line, which is not a row."""
        self.blank_lines += 1

    @property
    def invalid_labels(self) -> int:
        """Rows whose label has an invalid type: their reasons are "label is ..."."""
        return sum(n for reason, n in self.counts.items() if reason.startswith("label is "))

    def exclude(self, reason: str) -> None:
        """Count a row that the file marks as not to be used."""
        self.excluded[reason] += 1

    def __len__(self) -> int:
        return self.counts.total()

    def to_json(self) -> str:
        """Everything except the source, as JSON."""
        return json.dumps({key: getattr(self, name) for key, (name, _) in _JSON_FIELDS.items()})

    @classmethod
    def from_json(
        cls,
        content: str | bytes,
        source: str,
        unit: str = "",
        files: tuple[tuple[str, str], ...] = (),
    ) -> BadRows:
        """The inverse of ``to_json``, for rows that are now at ``source`` or in ``files``.

        Raises TypeError, ValueError or LookupError for other content.
        """
        bad, values = cls(source, unit, files), json.loads(content)
        for key, (name, kind) in _JSON_FIELDS.items():
            if not isinstance(values[key], kind):
                raise TypeError(f"{key} is not a {kind.__name__}")
            is_counter = isinstance(getattr(bad, name), Counter)
            setattr(bad, name, Counter(values[key]) if is_counter else values[key])
        bad.first_errors = [(line, detail) for line, detail in bad.first_errors]
        for line, _ in bad.first_errors:
            bad.location(line)  # IndexError for a file that is not in ``files``
        return bad


def format_reasons(counts: Counter[str]) -> str:
    """``3 × empty text, 1 × missing label``, the most frequent first."""
    return ", ".join(f"{count:,} × {reason}" for reason, count in counts.most_common())


def raise_or_skip(bad_rows: Sequence[BadRows], policy: str, max_share: float | None = None) -> None:
    """Raise one DataError about all the bad rows, unless ``policy`` is ``skip``.

    ``max_share``: the fraction of rows per source that may be skipped (data.max_skipped).
    """
    bad_rows = [bad for bad in bad_rows if len(bad)]
    if policy == "skip":
        for bad in bad_rows:
            # If no row is left, another error is raised.
            if max_share is not None and len(bad) < bad.read:
                check_skipped_share(bad, len(bad), bad.read, max_share)
        return
    if not bad_rows:
        return
    total = sum(len(bad) for bad in bad_rows)
    rows = "1 bad row" if total == 1 else f"{total:,} bad rows"
    hint = bad_rows_hint(bad_rows, max_share)
    raise DataError("\n".join([rows, *_format_first_errors(bad_rows), hint]))


def bad_rows_hint(bad_rows: Sequence[BadRows], max_share: float | None) -> str:
    """What to do with bad rows, with the hints of the reasons.

    ``max_share``: the share of rows that may be skipped; None for any.
    """
    hint = "Fix them, or skip them with data.on_bad_row=skip"
    shares = [len(bad) / bad.read for bad in bad_rows if bad.read]
    if max_share is not None and any(share > max_share for share in shares):
        hint += f" data.max_skipped={_round_up_to_percent(max(shares))}"
    return _append_hints(hint, bad_rows)


def no_usable_row_error(bad: BadRows) -> DataError:
    """The error for a source of which no row can be used, with the first bad rows."""
    reasons = format_reasons(bad.counts + bad.excluded)
    if not len(bad):
        problem = f"there are no rows to use ({reasons})" if reasons else "there are no rows"
        return DataError(problem, where=bad.source)
    lines = [f"no row can be used ({reasons})", *_format_first_errors([bad])]
    return DataError(
        "\n".join([*lines, _append_hints("Fix them, or check the columns and the format", [bad])]),
        where=bad.source,
    )


def check_skipped_share(bad: BadRows, skipped: float, read: int, max_share: float) -> None:
    """Raise DataError if ``skipped`` of ``read`` rows are more than ``max_share``."""
    if skipped <= max_share * read + 1e-9:
        return
    raise DataError(
        "\n".join(
            [
                f"{bad.source}: {len(bad):,} of {read:,} rows cannot be used"
                f" ({format_reasons(bad.counts)}), more than data.max_skipped={max_share:g} allows",
                *_format_first_errors([bad]),
                _append_hints(
                    "Fix them, or allow this share with"
                    f" data.max_skipped={_round_up_to_percent(skipped / read)}",
                    [bad],
                ),
            ]
        )
    )


def _round_up_to_percent(share: float) -> str:
    """The smallest share in whole percent that allows ``share``."""
    return f"{min(1.0, math.ceil(share * 100 - 1e-9) / 100):g}"


def _format_first_errors(bad_rows: Iterable[BadRows]) -> list[str]:
    lines = []
    for bad in bad_rows:
        lines += [f"  {bad.location(line)}: {detail}" for line, detail in bad.first_errors]
        if len(bad) > len(bad.first_errors):
            lines.append(
                f"  … ({len(bad):,} in total in {bad.source}: {format_reasons(bad.counts)})"
            )
        lines += [f"  {bad.source}: {note}" for note in bad.notes]
    return lines


def _append_hints(action: str, bad_rows: Iterable[BadRows]) -> str:
    """``action``, and the hints of the reasons."""
    return ". ".join(
        [action, *dict.fromkeys(hint for bad in bad_rows for hint in bad.hints.values())]
    )


def drop_rows(
    table: pa.Table, masked_errors: Sequence[tuple[np.ndarray, RowError]], bad: BadRows
) -> pa.Table:
    """The table without the rows in the masks, bool [rows], which are added to ``bad``.

    A row in several masks is added with the first error.
    """
    dropped_mask = np.zeros(table.num_rows, dtype=bool)
    for mask, error in masked_errors:
        for line in table.column("line").filter(pa.array(mask & ~dropped_mask)).to_pylist():
            bad.add(line, error)
        dropped_mask |= mask
    return table.filter(pa.array(~dropped_mask)) if dropped_mask.any() else table


def format_accounting(source: str, counts: Mapping[str, Any]) -> str:
    """``counts`` of ``Rows.accounting`` as one line; the most frequent reasons first."""
    terms = [f"{counts['used']:,} used"]
    skipped = _most_frequent_first(counts["skipped"])
    if skipped:
        reasons = ", ".join(f"{count:,} × {reason}" for reason, count in skipped)
        terms.append(f"{sum(counts['skipped'].values()):,} skipped ({reasons})")
    terms += [f"{count:,} {reason}" for reason, count in _most_frequent_first(counts["unused"])]
    line = f"{source}: {counts['read']:,} {_pluralize('row', counts['read'])} read = "
    line += " + ".join(terms)
    if counts["blank_lines"]:
        line += f"; {counts['blank_lines']:,} blank {_pluralize('line', counts['blank_lines'])}"
    for reason, count in _most_frequent_first(counts["dropped"]):
        line += f"; {count:,} × {reason}"
    return line


def _most_frequent_first(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    nonzero = [(reason, count) for reason, count in counts.items() if count]
    return sorted(nonzero, key=lambda reason_count: -reason_count[1])


def _pluralize(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"


@dataclass
class Rows:
    """The rows of one split: a table of the task's columns, and their accounting.

    Usually the columns are ``text``, maybe ``text_pair`` (strings), and a ``label`` that is a
    string (classes), a float64 (regression) or a list of strings (several labels). ``line`` is the
    line of the source that a row starts on, from 1; rows without lines are counted from 1. With
    several files, it also has the number of the file (``encode_line``).

    Attributes:
        table: the columns of the task's row schema, ``label`` if labelled, and ``line``.
        bad: the accounting of the source, with the invalid rows. If its reader did not count rows,
            ``read`` is set to the sum of the others.
        files: absolute paths of the files that were read.
        row_indices: int32 ascending, which rows of ``table`` these are; None: all.
        unused: valid rows of the source that are not in this split, by reason.
    """

    table: pa.Table
    bad: BadRows
    files: tuple[str, ...] = ()
    row_indices: np.ndarray | None = None
    unused: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        if not self.bad.read:
            self.bad.read = len(self) + len(self.bad) + self.unused.total()

    def __len__(self) -> int:
        return self.table.num_rows if self.row_indices is None else len(self.row_indices)

    @property
    def source(self) -> str:
        return self.bad.source

    @property
    def columns(self) -> list[str]:
        return self.table.column_names

    @property
    def has_labels(self) -> bool:
        return "label" in self.table.column_names

    def column(self, name: str) -> list[Any]:
        """A column as Python values."""
        return self.arrow_column(name).to_pylist()

    def arrow_column(self, name: str) -> pa.ChunkedArray:
        """A column as an Arrow array; a copy if the rows are a selection."""
        return self.slice(0, len(self), [name]).column(name)

    def value(self, name: str, row: int) -> Any:
        """The value of a row in a column."""
        return self.table.column(name)[self._table_index(row)].as_py()

    def location(self, row: int) -> str:
        """``source:line`` of a row."""
        return self.bad.location(self.value("line", row))

    def accounting(self) -> dict[str, Any]:
        """Where the rows of the source went, as JSON values.

        read = used + Σ skipped + Σ unused. Blank lines are not rows.
        """
        bad = self.bad
        return {
            "read": bad.read,
            "used": bad.read - len(bad) - self.unused.total(),
            "skipped": dict(bad.counts),
            "unused": dict(self.unused),
            "dropped": dict(bad.dropped),
            "blank_lines": bad.blank_lines,
            "other_lines": dict(bad.other_lines),
        }

    def select(self, mask: np.ndarray, reason: str = "not chosen") -> Rows:
        """The rows where ``mask`` [rows] is true, in order; ``reason`` counts the others."""
        row_indices = np.flatnonzero(mask) if self.row_indices is None else self.row_indices[mask]
        selected = replace(
            self,
            bad=copy.deepcopy(self.bad),  # rows that are skipped later are counted in one of them
            row_indices=row_indices.astype(np.int32),
            unused=self.unused + Counter({reason: len(self) - len(row_indices)}),
        )
        if len(selected) > _COPY_BELOW_SHARE * self.table.num_rows:
            return selected
        # A small selection is copied, so that it does not keep the table in memory.
        return replace(selected, table=selected.slice(0, len(selected)), row_indices=None)

    def slice(self, start: int, size: int, names: Sequence[str] | None = None) -> pa.Table:
        """At most ``size`` rows from ``start`` on, with the columns ``names`` (None: all)."""
        table = self.table if names is None else self.table.select(list(names))
        if self.row_indices is None:
            return table.slice(start, size)
        row_indices = self.row_indices[start : start + size]
        if not len(row_indices):
            return table.slice(0, 0)
        start_index, last_index = int(row_indices[0]), int(row_indices[-1])
        mask = np.zeros(last_index - start_index + 1, dtype=bool)
        mask[row_indices - start_index] = True
        return table.slice(start_index, len(mask)).filter(pa.array(mask))

    def iter_chunks(self, size: int, names: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """All rows in chunks of at most ``size``."""
        for start in range(0, len(self), size):
            yield self.slice(start, size, names)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of names, types and values of the columns, without the location of the rows."""
        digest = hashlib.sha256()
        for name in sorted(self.columns):
            if name != "line":
                arrow_type = self.table.schema.field(name).type
                digest.update(f"{name}:{arrow_type}:{len(self)};".encode())
                for chunk in self.iter_chunks(_CHUNK_ROWS, [name]):
                    _update_digest(digest, chunk.column(name).combine_chunks())
        return digest.hexdigest()

    def _table_index(self, row: int) -> int:
        return int(row if self.row_indices is None else self.row_indices[row])


def _update_digest(digest: hashlib._Hash, column: pa.Array) -> None:
    """Hash values independently of the padding of Arrow buffers."""
    if column.null_count:
        digest.update(np.asarray(column.is_null()).tobytes())
        column = column.drop_null()
    arrow_type = column.type
    if pa.types.is_list(arrow_type) or pa.types.is_large_list(arrow_type):
        digest.update(np.asarray(column.value_lengths(), dtype=np.int64).tobytes())
        _update_digest(digest, column.flatten())
    elif pa.types.is_string(arrow_type) or pa.types.is_large_string(arrow_type):
        lengths = pa.compute.binary_length(column)
        digest.update(np.asarray(lengths, dtype=np.int64).tobytes())
        digest.update("".join(column.to_pylist()).encode())
    else:
        digest.update(np.ascontiguousarray(column.to_numpy(zero_copy_only=False)).tobytes())
