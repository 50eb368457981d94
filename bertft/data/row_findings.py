"""Findings on the rows of a run: missing classes, contradictions, duplicates, truncated texts."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from bertft.data.findings import Finding
from bertft.data.near_duplicates import MAX_TEXT_LENGTH, find_near_duplicates
from bertft.data.rows import Rows
from bertft.utils.messages import format_list, quote_value, shorten

if TYPE_CHECKING:
    from bertft.data.features import FeatureTable
    from bertft.data.splits import Splits

__all__ = ["TextColumns", "find_row_findings", "label_values"]

_CHUNK_ROWS = 16_384
_EXAMPLE_LENGTH = 80  # characters of a text in an example
_MIN_TRUNCATED = 0.01  # smaller fractions of truncated rows are only in the table of the splits
_MAX_UNKNOWN = 0.05  # fraction of the tokens
_MAX_QUERIES = 20_000  # validation rows that are compared with the training rows
_MAX_CHARACTERS = 40_000_000  # of the training rows that are compared
_MIN_LABEL_GAP = 0.1  # fraction of the range of numeric labels that counts as a contradiction


def find_row_findings(
    splits: Splits,
    features: Mapping[str, FeatureTable],
    max_length: int,
    unknown_tokens: float | None = None,
    duplicates: bool = False,
) -> list[Finding]:
    """All findings on the rows of ``splits``, the most important first.

    Args:
        features: split → features.
        max_length: the maximum number of tokens per row.
        unknown_tokens: the fraction of the tokens in train that the vocabulary does not have.
        duplicates: whether training rows with the texts of an earlier one are a finding.
    """
    findings = [*_unknown_tokens(len(features.get("train", ())), unknown_tokens)]
    findings += _missing_classes(splits)
    texts = {
        name: TextColumns(rows, splits.schema.text_fields)
        for name, rows in splits.items()
        if name in ("train", "validation")
    }
    train, validation = texts.get("train"), texts.get("validation")
    if train is not None and train.names:
        findings += _contradictions(train)
        if duplicates:
            findings += _duplicates(train)
        if validation is not None and validation.names:
            findings += _shared_texts(train, validation, splits.validation_from_train)
    truncated = [
        finding
        for name in ("train", "validation")
        if name in features
        for finding in _truncated_texts(name, features[name], max_length)
    ]
    return findings + truncated[:1]  # usually the same in both splits


class TextColumns:
    """The texts of rows, normalized: NFKC, case folded, one space between words."""

    def __init__(self, rows: Rows, fields: Sequence[str]) -> None:
        self.rows = rows
        kinds = {name: rows.table.schema.field(name).type for name in rows.columns}
        self.names = [name for name in fields if name in kinds and _is_text(kinds[name])]

    def iter_chunks(self) -> Iterator[list[tuple[str, ...]]]:
        for chunk in self.rows.iter_chunks(_CHUNK_ROWS, self.names):
            columns = [map(_normalize, chunk.column(name).to_pylist()) for name in self.names]
            yield list(zip(*columns, strict=True))

    @cached_property
    def hashes(self) -> np.ndarray:
        """A 64-bit hash of the texts of each row, uint64 [rows]."""
        hashes = (_hash_texts(texts) for chunk in self.iter_chunks() for texts in chunk)
        return np.fromiter(hashes, np.uint64, len(self.rows))

    def quote(self, row: int) -> str:
        """The location of a row and the beginning of its text."""
        text = " ⏐ ".join(str(self.rows.value(name, row)) for name in self.names)
        location = _short_location(self.rows, row)
        return f"{location} '{shorten(' '.join(text.split()), _EXAMPLE_LENGTH)}'"


def _short_location(rows: Rows, row: int) -> str:
    """The location of a row without the folder of its file."""
    return rows.location(row).rpartition("/")[2]


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _normalize(text: str) -> str:
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.casefold().split())


def _hash_texts(texts: tuple[str, ...]) -> int:
    content = "\0".join(texts).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def _unknown_tokens(rows: int, fraction: float | None) -> Iterator[Finding]:
    if fraction is not None and fraction > _MAX_UNKNOWN:
        yield Finding(
            "unknown_tokens",
            f"{fraction:.1%} of the tokens in train are not in the vocabulary of the model",
            rows,
            rows,
            "",
            "Choose a model for the language and script of the texts",
        )


def _missing_classes(splits: Splits) -> Iterator[Finding]:
    """Classes without a row in train or in validation."""
    classes = splits.class_names or []
    for name, rows in splits.items():
        if (
            name not in ("train", "validation")
            or not rows.has_labels
            or "label" not in rows.columns
        ):
            continue
        occurring = set(splits.schema.label_statistics(rows.slice(0, len(rows), ["label"])))
        missing = splits.schema.missing_classes(classes, occurring)
        if not missing:
            continue
        if name == "train":
            advice = (
                "The model cannot learn them: add rows, raise data.max_train_rows if it left them"
                " out, or set data.labels without them"
            )
        elif splits.validation_from_train:
            advice = (
                "Metrics do not measure them, and a class with one row stays in train: add rows,"
                " raise data.validation_fraction (or data.max_validation_rows if it left them out),"
                " or set data.validation=<file with all classes>"
            )
        else:
            source = rows.source.rpartition("/")[2] if rows.files else rows.source
            advice = (
                f"Metrics do not measure them: add rows with these classes to {source}, or raise"
                " data.max_validation_rows if it left them out"
            )
        yield Finding(
            f"missing_classes_{name}",
            f"{len(missing):,} of {len(classes):,} classes have no row in {name}",
            len(missing),
            len(classes),
            format_list(map(quote_value, missing), 4),
            advice,
        )


def _contradictions(train: TextColumns) -> Iterator[Finding]:
    """Training rows with the same text and another label."""
    if "label" not in train.rows.columns:
        return
    hashes = train.hashes
    labels = train.rows.arrow_column("label")
    values, gap = label_values(labels)
    order = np.argsort(hashes, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(hashes[order].astype(np.int64)) != 0])
    ordered = values[order]
    spread = np.maximum.reduceat(ordered, starts) - np.minimum.reduceat(ordered, starts)
    sizes = np.diff(np.r_[starts, len(order)])
    conflicting = np.flatnonzero(spread > gap)
    if not len(conflicting):
        return
    count = int(sizes[conflicting].sum())
    start = int(starts[conflicting[np.argmin(order[starts[conflicting]])]])
    first = int(order[start])
    other = next(
        int(row) for row in order[start:] if abs(float(values[row]) - float(values[first])) > gap
    )
    shown = [shorten(str(train.rows.value("label", row)), 30) for row in (first, other)]
    yield Finding(
        "contradictory_duplicates",
        f"{count:,} of {len(hashes):,} training rows have the same text as another row but a"
        f" different label ({len(conflicting):,} distinct"
        f" {'text' if len(conflicting) == 1 else 'texts'})",
        count,
        len(hashes),
        f"{train.quote(first)} is {shown[0]}, {_short_location(train.rows, other)} is {shown[1]}",
        "Correct the labels or remove these rows",
    )


def _duplicates(train: TextColumns) -> Iterator[Finding]:
    """Training rows with the texts of an earlier row."""
    hashes = train.hashes
    _, first_rows, numbers = np.unique(hashes, return_index=True, return_inverse=True)
    is_repeated = first_rows[numbers] != np.arange(len(hashes))
    count = int(is_repeated.sum())
    if not count:
        return
    row = int(np.flatnonzero(is_repeated)[0])
    first = int(first_rows[numbers[row]])
    yield Finding(
        "duplicate_texts",
        f"{count:,} of {len(hashes):,} training rows {'repeats' if count == 1 else 'repeat'} the"
        " text of an earlier row",
        count,
        len(hashes),
        f"{train.quote(first)} and {_short_location(train.rows, row)}",
        "Remove them, so that no text is in train and in validation",
    )


def label_values(labels: pa.ChunkedArray) -> tuple[np.ndarray, float]:
    """A number per label, and the largest difference of labels that do not contradict."""
    if pa.types.is_floating(labels.type):
        values = labels.to_numpy().astype(np.float64)
        return values, _MIN_LABEL_GAP * float(np.ptp(values)) if len(values) else 0.0
    numbers: dict[Any, int] = {}
    codes = [
        numbers.setdefault(tuple(sorted(label)) if isinstance(label, list) else label, len(numbers))
        for label in labels.to_pylist()
    ]
    return np.array(codes, np.int64), 0.0


def _shared_texts(train: TextColumns, validation: TextColumns, held_out: bool) -> Iterator[Finding]:
    """Validation rows whose text is also in train, or nearly."""
    train_hashes, validation_hashes = train.hashes, validation.hashes
    is_same = np.isin(validation_hashes, train_hashes)
    candidates = np.flatnonzero(~is_same)
    step = -(-len(candidates) // _MAX_QUERIES) or 1
    query_rows = candidates[::step]
    query_row_set = set(query_rows.tolist())
    validation_texts = (texts for chunk in validation.iter_chunks() for texts in chunk)
    queries = [texts for row, texts in enumerate(validation_texts) if row in query_row_set]
    near_duplicates = find_near_duplicates(queries, _limited_chunks(train))
    same_count, near_count = int(is_same.sum()), len(near_duplicates) * step
    total = len(validation_hashes)
    if not same_count and not near_count:
        return
    if same_count:
        row = int(np.flatnonzero(is_same)[0])
        train_row = int(np.flatnonzero(train_hashes == validation_hashes[row])[0])
        train_example = _short_location(train.rows, train_row)  # its text is the same
    else:
        query = min(near_duplicates)
        row = int(query_rows[query])
        text_hash = np.uint64(_hash_texts(near_duplicates[query][1]))
        train_example = train.quote(int(np.flatnonzero(train_hashes == text_hash)[0]))
    about = "about " if step > 1 and near_count else ""
    kinds = [
        f"{same_count:,} exactly (ignoring case and spaces)" if same_count else "",
        f"{about}{near_count:,} nearly" if near_count else "",
    ]
    origin = "the data before it is split" if held_out else "train or from validation"
    yield Finding(
        "validation_texts_in_train",
        f"{about}{same_count + near_count:,} of {total:,} validation rows have a text that is in"
        f" train: {', '.join(filter(None, kinds))}",
        same_count + near_count,
        total,
        f"{validation.quote(row)} and {train_example}",
        f"Metrics on validation may be too high: remove the duplicates from {origin}",
    )


def _limited_chunks(columns: TextColumns) -> Iterator[list[tuple[str, ...]]]:
    """Chunks of rows, at most ``_MAX_CHARACTERS`` in total; more rows are thinned out evenly."""
    sample = columns.rows.slice(0, min(len(columns.rows), _CHUNK_ROWS), columns.names)
    lengths = [
        min(len(text), MAX_TEXT_LENGTH)
        for name in columns.names
        for text in sample.column(name).to_pylist()
    ]
    mean = sum(lengths) / max(1, sample.num_rows)
    step = max(1, int(np.ceil(mean * len(columns.rows) / _MAX_CHARACTERS)))
    for chunk in columns.iter_chunks():
        yield chunk[::step]


def _truncated_texts(name: str, features: FeatureTable, max_length: int) -> Iterator[Finding]:
    """Rows that are longer than the maximum length."""
    if "cut_tokens" not in features.columns:
        return
    cut = features.read_column("cut_tokens").astype(np.int64)
    is_cut = cut > 0
    count = int(is_cut.sum())
    if count < _MIN_TRUNCATED * len(cut):
        return
    full_lengths = features.lengths + cut
    share = int(cut.sum()) / int(full_lengths.sum())
    longest = int(np.argmax(full_lengths))
    row = int(features.gather("row", np.array([longest]))[0])
    usual = int(np.quantile(full_lengths[is_cut], 0.5))
    yield Finding(
        f"truncated_texts_{name}",
        f"{count:,} of {len(cut):,} {name} rows ({count / len(cut):.1%}) are longer than"
        f" {max_length} tokens; {share:.1%} of all tokens are cut",
        count,
        len(cut),
        f"median length of these rows {usual:,} tokens, longest"
        f" {_short_location(features.rows, row)} with {int(full_lengths[longest]):,}",
        "Raise data.max_length if the model supports it, or shorten the texts",
    )
