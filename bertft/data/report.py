"""What there is to know about the data before training on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertft.config.messages import shortened
from bertft.data.accounting import accounting_line
from bertft.data.classes import mapping_note
from bertft.data.forms.form import RowForm
from bertft.data.rows import Rows
from bertft.data.sources import Splits
from bertft.data.table import FeatureTable

if TYPE_CHECKING:
    from rich.table import Table

__all__ = [
    "DataReport",
    "Special",
    "SplitReport",
    "accounting_lines",
    "describe",
    "overlap",
    "table",
]

_SLICE = 262_144  # rows at a time
_QUANTILES = {"min": 0.0, "median": 0.5, "90 %": 0.9, "max": 1.0}
_MANY = 0.05  # a share of unknown tokens above which the texts are not the vocabulary's


@dataclass(frozen=True)
class Special:
    """Ids of a tokenizer: that of its unknown token (None: it has none), and the special ones."""

    unknown: int | None = None
    ids: tuple[int, ...] = ()


@dataclass
class SplitReport:
    """``rows``: those that are used. ``lengths``: quantiles and mean in tokens a feature.

    ``truncated``: share of the features. ``labels``: class → share of the rows (of several labels:
    of the rows that have it); other tasks: what their form tells. ``source`` and ``fingerprint``
    say which rows they are. ``unknown``: share of the tokens that the vocabulary does not have,
    special ones aside; None for a vocabulary without an unknown token. ``notes``: what their reader
    noticed.

    The accounting: ``read`` = ``rows`` + Σ ``skipped`` + Σ ``unused``, each by reason. ``dropped``
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


@dataclass
class DataReport:
    """``overlap``: validation rows whose texts also stand in train; None without both splits.

    ``mapping``: label of a file → class, for every label that was read as another text.
    """

    splits: dict[str, SplitReport]
    overlap: int | None
    cut: bool = False
    classes: list[str] | None = None
    notes: list[str] = field(default_factory=list)
    mapping: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def describe(
    splits: Splits, features: Mapping[str, FeatureTable], special: Special = Special()
) -> DataReport:
    """The report on the splits that have features (``features`` by split name).

    ``special`` tells which ids count as unknown, and which not at all.
    """
    reports = {
        name: _describe(rows, features[name], splits.form, special)
        for name, rows in splits.items()
        if name in features
    }
    both = splits.train is not None and splits.validation is not None
    apart = [(name, rows) for name, rows in splits.items() if name not in features]
    notes = [f"{rows.source}: {note}" for _, rows in apart for note in rows.notes]
    notes += [
        f"{name} ({rows.source}): {len(rows):,} rows have no label and are not scored"
        for name, rows in apart
    ]
    return DataReport(
        reports,
        overlap(splits.train, splits.validation, splits.form.texts) if both else None,  # type: ignore[arg-type]
        splits.cut,
        splits.labels,
        [*splits.form.notes(), *notes, *_many_unknown(reports)],
        dict(splits.form.mapping),
    )


def _many_unknown(reports: Mapping[str, SplitReport]) -> list[str]:
    many = [
        f"{name} {each.unknown:.0%}"
        for name, each in reports.items()
        if each.unknown is not None and each.unknown > _MANY
    ]
    if not many:
        return []
    return [
        f"warning: many tokens are unknown to the model's vocabulary ({', '.join(many)}); choose a"
        " model of the texts' language and script"
    ]


def _unknown_share(features: FeatureTable, special: Special) -> float | None:
    if special.unknown is None:
        return None
    apart = np.array([each for each in special.ids if each != special.unknown], np.int64)
    unknown = total = 0
    for piece in features.pieces("input_ids"):
        unknown += int((piece == special.unknown).sum())
        total += len(piece) - int(np.isin(piece, apart).sum())
    return unknown / max(1, total)


def _describe(rows: Rows, features: FeatureTable, form: RowForm, special: Special) -> SplitReport:
    lengths = features.lengths
    values = np.quantile(lengths, list(_QUANTILES.values())).tolist()
    quantiles = dict(zip(_QUANTILES, values, strict=True))
    truncated = 0
    if "truncated" in features.columns:
        truncated = sum(int(piece.sum()) for piece in features.pieces("truncated"))
    counts = rows.accounting()
    if counts["used"] != (found := int(features.has_feature().sum())):
        raise RuntimeError(f"{rows.source}: {counts['used']:,} rows used, {found:,} have features")
    return SplitReport(
        rows=counts["used"],
        features=len(features),
        lengths={**quantiles, "mean": float(lengths.mean())},
        truncated=truncated / len(features),
        labels=form.balance(rows.slice(0, len(rows), ["label"])) if rows.labelled else {},
        skipped=counts["skipped"],
        source=rows.source,
        files=list(rows.files),
        fingerprint=rows.fingerprint,
        read=counts["read"],
        unused=counts["unused"],
        dropped=counts["dropped"],
        blank_lines=counts["blank_lines"],
        other_lines=counts["other_lines"],
        notes=list(rows.notes),
        unknown=_unknown_share(features, special),
    )


def accounting_lines(report: DataReport) -> list[str]:
    """Where the rows of each split went, a line per split."""
    return [
        accounting_line(f"{name} ({split.source})", {**asdict(split), "used": split.rows})
        for name, split in report.splits.items()
    ]


def overlap(train: Rows, validation: Rows, texts: Sequence[str] = ("text", "text_pair")) -> int:
    """Rows of ``validation`` whose texts, space around them apart, also stand in ``train``."""
    asked = [_texts(piece, texts) for piece in validation.slices(_SLICE)]
    found: list[list[pa.Array]] = [[] for _ in asked]
    for piece in train.slices(_SLICE):  # each makes a set of every piece that is asked
        own = _texts(piece, texts)
        for some, same in zip(asked, found, strict=True):
            same.append(pc.unique(own.filter(pc.is_in(own, value_set=some))))
    there = (
        pc.sum(pc.is_in(some, value_set=pa.chunked_array(same, some.type)))
        for some, same in zip(asked, found, strict=True)
    )
    return sum(each.as_py() or 0 for each in there)


def _texts(table: pa.Table, texts: Sequence[str]) -> pa.ChunkedArray:
    names = [name for name in texts if name in table.column_names]
    parts = [pc.utf8_trim_whitespace(table.column(name)) for name in names]
    # No text holds a NUL, so it keeps ("a b", "c") and ("a", "b c") apart.
    return pc.binary_join_element_wise(*parts, pa.scalar("\0", pa.large_string()))


def table(report: DataReport) -> Table:
    """The report as a table for the terminal."""
    from rich.table import Table

    result = Table(title="data", title_justify="left")
    # What was skipped is in the accounting below the table.
    head = ("split", "rows", "tokens: median, 90 %, max", "truncated", "unknown", "labels")
    for column in head:
        result.add_column(column)
    for name, split in report.splits.items():
        lengths = split.lengths
        result.add_row(
            f"{name} (cut from train)" if name == "validation" and report.cut else name,
            _rows(split),
            f"{lengths['median']:.0f}, {lengths['90 %']:.0f}, {lengths['max']:.0f}",
            f"{split.truncated:.1%}",
            "none" if split.unknown is None else f"{split.unknown:.1%}",
            _labels(split.labels, report.classes),
        )
    told = [*report.notes, *filter(None, [mapping_note(report.mapping)])]
    told += [f"{split.source}: {note}" for split in report.splits.values() for note in split.notes]
    if report.overlap:
        rows = report.splits["validation"].rows if "validation" in report.splits else 0
        told.append(f"{report.overlap:,} of {rows:,} validation rows also stand in train")
    result.caption = "\n".join(told) or None
    return result


def _rows(split: SplitReport) -> str:
    windows = "" if split.features == split.rows else f" in {split.features:,} windows"
    return f"{split.rows:,}{windows}"


_SHOWN = 6


def _labels(shares: Mapping[str, float], classes: list[str] | None) -> str:
    if classes is None:
        return ", ".join(f"{name} {value:.3g}" for name, value in shares.items())
    shown = [f"{shortened(name, 30)} {shares.get(name, 0.0):.1%}" for name in classes[:_SHOWN]]
    return ", ".join(shown) + (f", … ({len(classes)} classes)" if len(classes) > _SHOWN else "")
