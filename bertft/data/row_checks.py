"""Suspicious rows of a file: invalid, damaged or very long ones, and classes of a single row.

``row_findings`` compares rows with each other; here each row is checked on its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertft.config.schema import default_value
from bertft.data.findings import Finding
from bertft.data.guess_columns import LABEL_COLUMN_NAMES, TEXT_COLUMN_NAMES
from bertft.data.row_findings import TextColumns
from bertft.data.rows import Rows, bad_rows_hint, format_reasons
from bertft.data.schema import RowSchema
from bertft.utils.messages import format_list, quote_value

__all__ = ["count_labels", "find_suspicious_rows"]

_MIN_ROWS = 20  # with fewer rows, any number of classes is usual
_MANY_CLASSES = 1 / 4  # of the rows: the labels may be ids
_LONG_FACTOR, _MIN_LONG_CHARACTERS = 20, 4_000  # times the median length
_MAX_LONG_SHARE = 0.02  # more long rows are usual texts
# UTF-8 that was decoded as cp1252: é becomes Ã©. The bytes after the first one of a character are
# 80 to BF.
_CONTINUATION = f"[{bytes(range(0x80, 0xC0)).decode('cp1252', 'ignore')}]"
_MOJIBAKE = f"[ÃÂ]{_CONTINUATION}|â€{_CONTINUATION}|(?:[ÐÑ]{_CONTINUATION}){{2}}|ï»¿|锟斤拷"
_REPLACEMENT = "\ufffd"


def find_suspicious_rows(rows: Rows, schema: RowSchema) -> list[Finding]:
    """All findings on the single rows of a file, the most important first."""
    texts = TextColumns(rows, schema.text_fields)
    findings = [*_invalid_rows(rows)]
    if len(rows) and texts.names:
        findings += _repeated_headers(rows, texts)
        findings += _damaged_characters(rows, texts)
        findings += _long_rows(rows, texts)
    if len(rows) and rows.has_labels and schema.has_classes:
        findings += _rare_classes(rows)
    return findings


def count_labels(rows: Rows) -> Counter[str]:
    """Class → number of times that it occurs; also of lists of classes."""
    values = rows.arrow_column("label")
    if pa.types.is_list(values.type):
        values = pc.list_flatten(values)
    counts = pc.value_counts(values.drop_null()).to_pylist()
    return Counter({entry["values"]: entry["counts"] for entry in counts})


def _invalid_rows(rows: Rows) -> Iterator[Finding]:
    bad = rows.bad
    if not len(bad):
        return
    line, detail = bad.first_errors[0]
    yield Finding(
        "invalid_rows",
        f"{len(bad):,} of {bad.read:,} rows cannot be used: {format_reasons(bad.counts)}",
        len(bad),
        bad.read,
        f"{bad.location(line)}: {detail}",
        bad_rows_hint([bad], default_value("data.max_skipped")),
    )


def _repeated_headers(rows: Rows, texts: TextColumns) -> Iterator[Finding]:
    """Rows whose texts are usual names of columns, as in files that were concatenated."""
    mask = np.ones(len(rows), bool)
    for name in texts.names:
        mask &= _is_any_of(rows.arrow_column(name), TEXT_COLUMN_NAMES)
    if rows.has_labels and pa.types.is_string(rows.table.schema.field("label").type):
        mask &= _is_any_of(rows.arrow_column("label"), LABEL_COLUMN_NAMES)
    else:
        return
    if mask.any():
        count = int(mask.sum())
        yield Finding(
            "header_as_row",
            f"{count:,} of {len(rows):,} rows {'looks' if count == 1 else 'look'} like a header",
            count,
            len(rows),
            texts.quote(int(np.flatnonzero(mask)[0])),
            "Remove these lines: files were probably concatenated with their headers",
        )


def _is_any_of(column: pa.ChunkedArray, names: Sequence[str]) -> np.ndarray:
    values = pc.utf8_lower(pc.utf8_trim_whitespace(column))
    is_name = pc.is_in(values, value_set=pa.array(names, values.type))
    return np.asarray(is_name.to_numpy(), dtype=bool)


def _damaged_characters(rows: Rows, texts: TextColumns) -> Iterator[Finding]:
    columns = [rows.arrow_column(name) for name in texts.names]
    checks = (
        (
            "replacement_characters",
            [pc.match_substring(column, _REPLACEMENT) for column in columns],
            f"the replacement character {_REPLACEMENT} (U+FFFD)",
            "Their characters were lost when the file was written in another encoding: export it"
            " again as UTF-8",
        ),
        (
            "mojibake",
            [pc.match_substring_regex(column, _MOJIBAKE) for column in columns],
            "characters such as Ã© or â€™, which are UTF-8 read as another encoding",
            "Export the file again as UTF-8, or repair the texts",
        ),
    )
    for kind, masks, what, advice in checks:
        mask = np.logical_or.reduce([np.asarray(found.to_numpy(), bool) for found in masks])
        count = int(mask.sum())
        if count:
            yield Finding(
                kind,
                f"{count:,} of {len(rows):,} rows {'has' if count == 1 else 'have'} {what}",
                count,
                len(rows),
                texts.quote(int(np.flatnonzero(mask)[0])),
                advice,
            )


def _long_rows(rows: Rows, texts: TextColumns) -> Iterator[Finding]:
    """Rows that are much longer than the others, as after a quote that is not closed."""
    lengths = sum(pc.utf8_length(rows.arrow_column(name)).to_numpy() for name in texts.names)
    median = float(np.median(lengths))
    mask = lengths > max(_LONG_FACTOR * median, _MIN_LONG_CHARACTERS)
    count = int(mask.sum())
    if 0 < count <= max(1.0, _MAX_LONG_SHARE * len(rows)) and len(rows) > 1:
        longest = int(np.argmax(lengths))
        yield Finding(
            "long_rows",
            f"{count:,} of {len(rows):,} rows {'is' if count == 1 else 'are'} much longer than the"
            f" others (median {median:,.0f} characters, longest {int(lengths[longest]):,})",
            count,
            len(rows),
            texts.quote(longest),
            "Check whether each is one text, or several rows that a quote or a missing line break"
            " joins",
        )


def _rare_classes(rows: Rows) -> Iterator[Finding]:
    counts = count_labels(rows)
    is_class_per_row = pa.types.is_string(rows.table.schema.field("label").type)
    if is_class_per_row and len(rows) >= _MIN_ROWS and len(counts) > _MANY_CLASSES * len(rows):
        yield Finding(
            "labels_like_ids",
            f"the labels have {len(counts):,} different values in {len(rows):,} rows",
            len(counts),
            len(rows),
            format_list(map(quote_value, list(counts)[:3])),
            "They may be ids or numbers: set data.label to another column, or data.task=regression",
        )
        return
    single = [name for name, count in counts.items() if count == 1]
    if single and is_class_per_row:
        yield Finding(
            "single_row_classes",
            f"{len(single):,} of {len(counts):,} classes {'has' if len(single) == 1 else 'have'}"
            " a single row",
            len(single),
            len(counts),
            format_list(map(quote_value, single), 4),
            "If validation rows are held out from this file, such a class is only in train, and no"
            " metric measures it: add rows, or merge classes with"
            " 'data.labels={<label>: <class>, ...}'",
        )
