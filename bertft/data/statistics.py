"""Statistics of the data, shown before training and recorded in the manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertft.data.features import FeatureTable
from bertft.data.findings import Finding
from bertft.data.labels import format_mapping_note
from bertft.data.rows import Rows, format_accounting
from bertft.data.schema import RowSchema
from bertft.data.splits import Splits
from bertft.utils.messages import shorten

if TYPE_CHECKING:
    from rich.table import Table

__all__ = [
    "AugmentedRows",
    "DataReport",
    "SpecialTokenIds",
    "SplitReport",
    "count_overlap",
    "format_split_accounting",
    "length_quantiles",
    "make_data_table",
    "summarize_splits",
    "unknown_token_share",
]

_CHUNK_ROWS = 262_144  # rows at a time
_QUANTILES = {"min": 0.0, "median": 0.5, "90 %": 0.9, "max": 1.0}
_MAX_UNKNOWN_SHARE = 0.05  # warn above this fraction of unknown tokens
_MAX_FILES = 100  # paths that are recorded per split


@dataclass(frozen=True)
class SpecialTokenIds:
    """Token ids of a tokenizer: the unknown token (None: it has none), and all special tokens."""

    unknown: int | None = None
    ids: tuple[int, ...] = ()


@dataclass
class SplitReport:
    """``rows``: used rows. ``lengths``: quantiles and mean of tokens per feature.

    ``truncated``: fraction of the features. ``cut_tokens``: fraction of all tokens that truncation
    removed, and ``full_lengths``: the quantiles before truncation (None: the task does not record
    them). ``labels``: label statistics of the task's schema, such as class → fraction of the rows.
    ``source`` and ``fingerprint`` identify the rows; ``files`` are the first 100 files.
    ``unknown``: fraction of unknown tokens among all tokens that are not special; None for a
    vocabulary without an unknown token. ``notes``: notes of the reader.

    Accounting: ``read`` = ``rows`` + Σ ``skipped`` + Σ ``unused``, each by reason. ``dropped``
    counts ignored parts of rows that are used; ``blank_lines`` are not rows.
    """

    rows: int
    features: int
    lengths: dict[str, float]
    truncated: float
    labels: dict[str, float]
    skipped: dict[str, int]
    source: str
    files: list[str]
    fingerprint: str
    read: int
    unused: dict[str, int]
    dropped: dict[str, int]
    blank_lines: int
    other_lines: dict[str, int]
    notes: list[str] = field(default_factory=list)
    unknown: float | None = None
    cut_tokens: float | None = None
    full_lengths: dict[str, float] | None = None


@dataclass
class AugmentedRows:
    """Copies of training rows with other words, whose targets come from a teacher.

    ``rows``: the rows that have ``copies`` each. ``unchanged``: copies without a replaced word.
    ``replaced``: fraction of all tokens of the copies that were replaced.
    """

    rows: int
    copies: int
    unchanged: int
    replaced: float


@dataclass
class DataReport:
    """Statistics of all splits. ``overlap``: validation rows whose texts are also in train.

    ``augmented``: copies of training rows, which are in no split. ``cut``: validation was held out
    from train. ``mapping``: label of a file → class, for every label that was read as another name.
    ``findings``: of a new run, what the user should act on.
    """

    splits: dict[str, SplitReport]
    overlap: int | None
    cut: bool = False
    classes: list[str] | None = None
    notes: list[str] = field(default_factory=list)
    mapping: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    augmented: AugmentedRows | None = None

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return asdict(self)


def summarize_splits(
    splits: Splits,
    features: Mapping[str, FeatureTable],
    special: SpecialTokenIds = SpecialTokenIds(),
) -> DataReport:
    """The report on the splits with features; ``features``: by split name.

    ``special``: the unknown token, and the special tokens, which are not counted.
    """
    reports = {
        name: _summarize_split(rows, features[name], splits.schema, special)
        for name, rows in splits.items()
        if name in features
    }
    overlap = None
    if splits.train is not None and splits.validation is not None:
        overlap = count_overlap(splits.train, splits.validation, splits.schema.text_fields)
    without_features = [(name, rows) for name, rows in splits.items() if name not in features]
    notes = [f"{rows.source}: {note}" for _, rows in without_features for note in rows.bad.notes]
    notes += [
        f"{name} ({rows.source}): {len(rows):,} rows have no label and are not scored"
        for name, rows in without_features
    ]
    return DataReport(
        reports,
        overlap,
        splits.validation_from_train,
        splits.class_names,
        [*splits.notes, *notes, *_unknown_token_warnings(reports)],
        dict(splits.label_mapping),
    )


def _unknown_token_warnings(reports: Mapping[str, SplitReport]) -> list[str]:
    affected = [
        f"{name} {report.unknown:.0%}"
        for name, report in reports.items()
        if report.unknown is not None and report.unknown > _MAX_UNKNOWN_SHARE
    ]
    if not affected:
        return []
    return [
        f"warning: many tokens are not in the model's vocabulary ({', '.join(affected)});"
        " choose a model for the language and script of the texts"
    ]


def unknown_token_share(features: FeatureTable, special: SpecialTokenIds) -> float | None:
    """The fraction of unknown tokens among all that are not special; None without such a token."""
    if special.unknown is None:
        return None
    excluded_ids = np.array(
        [token_id for token_id in special.ids if token_id != special.unknown], np.int64
    )
    unknown = total = 0
    for token_ids in features.iter_chunks("input_ids"):
        unknown += int((token_ids == special.unknown).sum())
        total += len(token_ids) - int(np.isin(token_ids, excluded_ids).sum())
    return unknown / max(1, total)


def _summarize_split(
    rows: Rows, features: FeatureTable, schema: RowSchema, special: SpecialTokenIds
) -> SplitReport:
    lengths = features.lengths
    truncated, cut_tokens, full_lengths = 0, None, None
    if "cut_tokens" in features.columns:
        cut = features.read_column("cut_tokens")
        truncated = int((cut > 0).sum())
        all_lengths = lengths + cut
        cut_tokens = float(cut.sum() / all_lengths.sum())
        full_lengths = {
            **length_quantiles(all_lengths),
            "mean": float(all_lengths.mean()),
        }
    counts = rows.accounting()
    if counts["used"] != (rows_with_features := int(features.rows_with_features().sum())):
        raise RuntimeError(
            f"{rows.source}: {counts['used']:,} rows used, {rows_with_features:,} have features"
        )
    label_statistics = {}
    if rows.has_labels:
        label_statistics = schema.label_statistics(rows.slice(0, len(rows), ["label"]))
    return SplitReport(
        rows=counts["used"],
        features=len(features),
        lengths={**length_quantiles(lengths), "mean": float(lengths.mean())},
        truncated=truncated / len(features),
        labels=label_statistics,
        skipped=counts["skipped"],
        source=rows.source,
        files=list(rows.files[:_MAX_FILES]),
        fingerprint=rows.fingerprint,
        read=counts["read"],
        unused=counts["unused"],
        dropped=counts["dropped"],
        blank_lines=counts["blank_lines"],
        other_lines=counts["other_lines"],
        notes=list(rows.bad.notes),
        unknown=unknown_token_share(features, special),
        cut_tokens=cut_tokens,
        full_lengths=full_lengths,
    )


def length_quantiles(lengths: np.ndarray) -> dict[str, float]:
    """The smallest, the median, the 90 % quantile and the largest of ``lengths``."""
    values = np.quantile(lengths, list(_QUANTILES.values())).tolist()
    return dict(zip(_QUANTILES, values, strict=True))


def format_split_accounting(report: DataReport) -> list[str]:
    """The accounting of the rows, one line per split.

    Validation rows that were held out and are all used have no line: that of train counts them.
    """
    lines = [
        format_accounting(f"{name} ({split.source})", {**asdict(split), "used": split.rows})
        for name, split in report.splits.items()
        if not (name == "validation" and report.cut and _is_used_completely(split))
    ]
    if (copies := report.augmented) is not None:
        unchanged = f"; {copies.unchanged:,} have no word to replace" if copies.unchanged else ""
        lines.append(
            f"augmented: {copies.rows * copies.copies:,} copies of {copies.rows:,} training rows,"
            f" {copies.replaced:.0%} of their tokens replaced{unchanged}"
        )
    return lines


def _is_used_completely(split: SplitReport) -> bool:
    return split.read == split.rows and not (split.dropped or split.blank_lines)


def count_overlap(
    train: Rows, validation: Rows, texts: Sequence[str] = ("text", "text_pair")
) -> int:
    """Rows of ``validation`` whose texts, without surrounding space, are also in ``train``.

    ``texts``: the names of the columns.
    """
    validation_chunks = [
        _joined_texts(chunk, texts) for chunk in validation.iter_chunks(_CHUNK_ROWS)
    ]
    # By chunk of validation, the texts of it that train has.
    shared_texts: list[list[pa.Array]] = [[] for _ in validation_chunks]
    for chunk in train.iter_chunks(_CHUNK_ROWS):
        train_texts = _joined_texts(chunk, texts)
        for chunk_texts, shared in zip(validation_chunks, shared_texts, strict=True):
            is_shared = pc.is_in(train_texts, value_set=chunk_texts)
            shared.append(pc.unique(train_texts.filter(is_shared)))
    counts = (
        pc.sum(pc.is_in(chunk_texts, value_set=pa.chunked_array(shared, chunk_texts.type)))
        for chunk_texts, shared in zip(validation_chunks, shared_texts, strict=True)
    )
    return sum(count.as_py() or 0 for count in counts)


def _joined_texts(table: pa.Table, texts: Sequence[str]) -> pa.ChunkedArray:
    names = [name for name in texts if name in table.column_names]
    columns = [pc.utf8_trim_whitespace(table.column(name)) for name in names]
    # Texts do not contain NUL, so that ("a b", "c") and ("a", "b c") differ.
    return pc.binary_join_element_wise(*columns, pa.scalar("\0", pa.large_string()))


def make_data_table(report: DataReport) -> Table:
    """The report as a table for the terminal."""
    from rich.table import Table

    result = Table(title="Data", title_justify="left")
    # Skipped rows are in the accounting below the table.
    head = ("split", "rows", "tokens: median, p90, max", "truncated", "unknown", "labels")
    for column in head:
        result.add_column(column)
    for name, split in report.splits.items():
        lengths = split.lengths
        result.add_row(
            name,  # the accounting states whether validation was held out from train
            _format_row_count(split),
            f"{lengths['median']:.0f}, {lengths['90 %']:.0f}, {lengths['max']:.0f}",
            f"{split.truncated:.1%}",
            "none" if split.unknown is None else f"{split.unknown:.1%}",
            _format_label_shares(split.labels, report.classes),
        )
    notes = [*report.notes, *filter(None, [format_mapping_note(report.mapping)])]
    notes += [f"{split.source}: {note}" for split in report.splits.values() for note in split.notes]
    # The finding also counts texts that differ in case or white space.
    has_finding = any(finding.kind == "validation_texts_in_train" for finding in report.findings)
    if report.overlap and not has_finding:
        rows = report.splits["validation"].rows if "validation" in report.splits else 0
        notes.append(f"{report.overlap:,} of {rows:,} validation rows are also in train")
    result.caption = "\n".join(notes) or None
    return result


def _format_row_count(split: SplitReport) -> str:
    windows = "" if split.features == split.rows else f" in {split.features:,} windows"
    return f"{split.rows:,}{windows}"


_MAX_CLASSES_SHOWN = 6


def _format_label_shares(shares: Mapping[str, float], classes: list[str] | None) -> str:
    if classes is None:
        return ", ".join(f"{name} {value:.3g}" for name, value in shares.items())
    shown = [
        f"{shorten(name, 30)} {shares.get(name, 0.0):.1%}" for name in classes[:_MAX_CLASSES_SHOWN]
    ]
    return ", ".join(shown) + (
        f", … ({len(classes)} classes)" if len(classes) > _MAX_CLASSES_SHOWN else ""
    )
