"""Inspect files before training: their format, columns, labels, tokens and suspicious rows.

The rows of a sample are loaded and encoded by the code of training, without torch: what is shown is
what the model reads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertft.config.command_configs import InspectConfig, InspectRequest
from bertft.config.data import DataConfig
from bertft.config.data_files import STANDARD_INPUT, compression_of, resolve_files
from bertft.config.registry import TASKS
from bertft.data.column_facts import ColumnFacts, has_header, summarize_columns
from bertft.data.detect_settings import DetectedSettings, detect_container, detect_settings
from bertft.data.features import FeatureTable, featurize
from bertft.data.findings import Finding
from bertft.data.labels import plain_number
from bertft.data.readers.csv_reader import table_separator
from bertft.data.readers.separators import resolve_quoting
from bertft.data.readers.text_files import read_head
from bertft.data.row_checks import count_labels, find_suspicious_rows
from bertft.data.row_findings import find_row_findings
from bertft.data.rows import Rows
from bertft.data.sampled_files import FileSampler
from bertft.data.splits import Splits
from bertft.data.standard_input import standard_input_stream, store_standard_input
from bertft.data.statistics import SpecialTokenIds, length_quantiles, unknown_token_share
from bertft.data.text_detection import MARKED_ENCODINGS, detect_text_format
from bertft.errors import UsageError
from bertft.models.file_tokenizer import FileTokenizer, load_file_tokenizer
from bertft.tasks.shared.encoding import TEXTS_ENCODING, InputEncoding, resolve_max_length

__all__ = [
    "FormatFacts",
    "Inspection",
    "SampleFacts",
    "ShownRow",
    "TokenFacts",
    "inspect_files",
]

_COMPLETE_BYTES, _SAMPLE_BYTES = 4 << 20, 2 << 20  # larger files are sampled
_MAX_TOKENIZED_ROWS, _MAX_TOKENIZED_CHARACTERS = 2_000, 300_000
_STDIN = "stdin"


@dataclass(frozen=True)
class SampleFacts:
    """How much of the files was read.

    Attributes:
        files: the number of files.
        total_bytes: the size of all files.
        rows: rows of the sample, also invalid ones.
        sampled_bytes: the size of the sample.
        method: which part of the files it is; empty if they were read completely.
        total_rows: rows of all files; an estimate unless ``is_complete``. None: unknown.
    """

    files: int
    total_bytes: int
    rows: int
    sampled_bytes: int
    method: str
    total_rows: int | None

    @property
    def is_complete(self) -> bool:
        return not self.method


@dataclass(frozen=True)
class FormatFacts:
    """The format of the first file; ``separator``, ``quoting`` and ``header``: of a table."""

    name: str
    compression: str | None
    encoding: str | None
    separator: str | None = None
    quoting: bool | None = None
    header: bool | None = None


@dataclass(frozen=True)
class TokenFacts:
    """Lengths in tokens of some rows.

    Attributes:
        model: the model of the tokenizer.
        rows: the number of tokenized rows.
        max_length: the maximum length of an input.
        lengths: quantiles of the lengths of whole rows; of inputs, if rows are split.
        cut_rows: the fraction of rows that are truncated; None if rows are split instead.
        cut_tokens: the fraction of all tokens that truncation removes; None if rows are split.
        split_rows: the fraction of rows that are split into several inputs.
        unknown: the fraction of unknown tokens; None for a vocabulary without an unknown token.
    """

    model: str
    rows: int
    max_length: int
    lengths: Mapping[str, float]
    cut_rows: float | None
    cut_tokens: float | None
    split_rows: float
    unknown: float | None


@dataclass(frozen=True)
class ShownRow:
    """A row as the model reads it: its location, its label in words, and its first input."""

    location: str
    label: str
    tokens: Sequence[str]


@dataclass
class Inspection:
    """What ``bertft inspect`` found. ``error``: why the rows cannot be loaded as configured.

    Attributes:
        source: the files in messages.
        task: data.task, and ``task_reason``, why.
        settings: the detected settings of ``data``, by name.
        labels: class → count; empty for tasks without classes.
        label_statistics: statistics of other labels.
        tokens: None if there is no tokenizer; ``tokens_note`` is the reason.
        notes: notes of the readers and about the labels.
        rows: the first rows.
        skipped: invalid rows of the sample.
    """

    source: str
    sample: SampleFacts
    format: FormatFacts | None
    columns: Sequence[ColumnFacts]
    task: str
    task_reason: str
    settings: Mapping[str, Any]
    labels: Counter[str] = field(default_factory=Counter)
    label_statistics: Mapping[str, float] = field(default_factory=dict)
    tokens: TokenFacts | None = None
    tokens_note: str = ""
    findings: Sequence[Finding] = ()
    notes: Sequence[str] = ()
    rows: Sequence[ShownRow] = ()
    skipped: int = 0
    error: UsageError | None = None


def inspect_files(request: InspectRequest, folder: Path) -> Inspection:
    """Inspect the files of ``data.train``.

    Args:
        request: the settings.
        folder: an empty folder for samples.

    Raises:
        DataError: a file cannot be read, or has no rows.
        UsageError: the settings do not fit the model.
    """
    config, source = request.data, None
    value = config.train
    if value == STANDARD_INPUT:
        value, source = str(_store_standard_input(config, folder / _STDIN)), _STDIN
    configured = frozenset(
        path.removeprefix("data.") for path in request.explicit_settings if path.startswith("data.")
    )
    if config.name != "files":  # a preset of data, which sets the task
        configured |= {"task"}
    container = detect_container(resolve_files(value, "data.train")[0], config)
    container = {name: item for name, item in container.items() if name not in configured}
    config = replace(config, **container)
    sampler = FileSampler(
        value, "data.train", config, folder, _SAMPLE_BYTES, source, _COMPLETE_BYTES
    )
    detected = detect_settings(sampler, config, configured)
    # Without data.encoding, a byte order mark is detected in each file, also by ``predict``.
    stated = {name: item for name, item in container.items() if item not in MARKED_ENCODINGS}
    detected.detected = stated | detected.detected
    if detected.file_set is None or (detected.splits is None and _is_unreadable(detected)):
        assert detected.error is not None
        raise detected.error
    return _describe(request, detected, sampler, configured)


def _store_standard_input(config: DataConfig, folder: Path) -> Path:
    """The rows on standard input as a file whose extension states their format.

    ``train`` stores rows as a table, unless data.format or data.task states another format. Here
    the content of such a file decides.
    """
    path = store_standard_input(standard_input_stream(), folder, config)
    if path.suffix not in (".csv", ".tsv") or config.format is not None:
        return path
    settings = detect_text_format(read_head(path, config.encoding))
    format_name = settings[0].partition("=")[2] if settings else "text"
    extensions = {"text": ".txt", "conll": ".conll", "fasttext": ""}
    return path.replace(path.with_suffix(extensions.get(format_name, path.suffix)))


def _is_unreadable(detected: DetectedSettings) -> bool:
    """Whether not even the columns of the file can be read."""
    return not _columns(detected, 0)


def _columns(detected: DetectedSettings, rows: int) -> list[ColumnFacts]:
    assert detected.file_set is not None
    return summarize_columns(detected.file_set, detected.schema, detected.config, rows)


def _describe(
    request: InspectConfig,
    detected: DetectedSettings,
    sampler: FileSampler,
    configured: frozenset[str],
) -> Inspection:
    config, splits, file_set = detected.config, detected.splits, detected.file_set
    assert file_set is not None
    rows = None if splits is None else splits.train
    columns = _columns(detected, 0 if rows is None else rows.bad.read)
    result = Inspection(
        source=file_set.source,
        sample=_sample_facts(sampler, rows),
        format=_format_facts(detected, sampler),
        columns=columns,
        task=config.task,
        task_reason=_explain_task(detected, configured, splits, columns),
        settings=detected.detected,
        error=detected.error if splits is None else None,
    )
    if splits is None or rows is None:
        return result
    result.notes = [*rows.bad.notes, *splits.notes]
    result.skipped = len(rows.bad)
    if rows.has_labels:
        if splits.schema.has_classes:
            result.labels = count_labels(rows)
        else:
            table = rows.slice(0, len(rows), ["label"])
            result.label_statistics = splits.schema.label_statistics(table)
    features: dict[str, FeatureTable] = {}
    max_length = 0
    tokenizer = load_file_tokenizer(request.model)
    encoding = _input_encoding(config.task, rows)
    if tokenizer is None or encoding is None:
        result.tokens_note = _no_tokens_note(request, encoding)
    else:
        max_length = resolve_max_length(
            config.max_length, tokenizer.max_input_length, encoding.default_max_length
        )
        chosen = _choose_rows(rows, splits, request.rows)
        table = featurize(
            chosen,
            lambda columns: encoding.encode(tokenizer, columns, config, max_length),
            [],
            None,
        )
        features["train"] = table
        name = request.model.tokenizer or request.model.path or request.model.name
        result.tokens = _token_facts(table, tokenizer, name, max_length)
        result.rows = _first_rows(table, tokenizer, min(request.rows, len(chosen)))
    unknown = None if result.tokens is None else result.tokens.unknown
    result.findings = [
        *find_suspicious_rows(rows, splits.schema),
        *find_row_findings(splits, features, max_length, unknown, duplicates=True),
    ]
    return result


def _sample_facts(sampler: FileSampler, rows: Rows | None) -> SampleFacts:
    samples = sampler.samples
    sampled_bytes = sum(sample.size for sample in samples)
    total_bytes = sampler.total_size
    read = 0 if rows is None else rows.bad.read
    methods = list(dict.fromkeys(sample.method for sample in samples if sample.method))
    if len(samples) < len(sampler.paths):
        methods.insert(0, f"{len(samples):,} of {len(sampler.paths):,} files")
    known = [sample.total_rows for sample in samples]
    total_rows: int | None = None
    if sampler.is_complete:
        total_rows = read
    elif len(samples) == 1 and known[0] is not None:
        total_rows = known[0]
    elif sampled_bytes and not any(map(compression_of, sampler.paths)):
        total_rows = round(read * total_bytes / sampled_bytes)
    return SampleFacts(
        len(sampler.paths), total_bytes, read, sampled_bytes, ", ".join(methods[:3]), total_rows
    )


def _format_facts(detected: DetectedSettings, sampler: FileSampler) -> FormatFacts:
    config, file_set = detected.config, detected.file_set
    assert file_set is not None
    first = file_set.first
    compression = compression_of(sampler.paths[0])
    if not first.format.spec.text:
        return FormatFacts(first.format.name, compression, None)
    if not first.format.spec.has_separator:
        return FormatFacts(first.format.name, compression, config.encoding)
    default = "\t" if first.format.name == "tsv" else ","
    columns = detected.schema.columns.without_derived()
    separator, _ = table_separator(first.path, columns, config, default)
    return FormatFacts(
        first.format.name,
        compression,
        config.encoding,
        separator,
        resolve_quoting(config.quoting, separator),
        has_header(detected.schema, config),
    )


def _explain_missing_label(columns: Sequence[ColumnFacts]) -> str:
    """Why no column is the label; prices and the like could be, if they were written as numbers."""
    for column in columns:
        plain = plain_number(column.example)
        if plain is not None and not column.role:
            return (
                f"no column looks like labels; the column {column.name} has numbers such as"
                f" {column.example!r}: write {plain}, then set data.task=regression"
                f" data.label={column.name}"
            )
    return "no column looks like labels; set data.label=<column> if one has them"


def _explain_task(
    detected: DetectedSettings,
    configured: frozenset[str],
    splits: Splits | None,
    columns: Sequence[ColumnFacts],
) -> str:
    """Why the rows are read for this task."""
    config, file_set = detected.config, detected.file_set
    if "task" in configured:
        return "as configured"
    format_name = file_set.first.format.name if file_set is not None else ""
    match config.task, format_name:
        case "question_answering", "squad" | "cmrc2018":
            return "the file has texts with questions, as SQuAD and CMRC 2018"
        case "question_answering", _:
            return "the columns are a question, a context and its answers"
        case "token_classification", "conll":
            return "each line has a word and its tag"
        case "token_classification", _ if config.sentence is not None:
            return "each row has a word, its tag and its sentence"
        case "token_classification", _:
            return "the labels are tags of words, or spans of the texts"
        case "masked_lm", "text" | "document":
            return "the file has one text per line, without labels"
        case "masked_lm", _:
            return _explain_missing_label(columns)
        case "multi_label", _ if isinstance(config.label, list):
            return f"{len(config.label)} columns have the values 0 and 1"
        case "multi_label", _:
            return "the labels of a row are a list"
        case "regression", _:
            return "the labels are numbers with decimals"
    if splits is None or splits.train is None or not splits.train.has_labels:
        return "the default"
    if isinstance(config.label, str) and config.label.startswith("@"):
        where = {"@file": "name of the file", "@folder": "folder"}.get(config.label, config.label)
        return f"the {where} is the label of a text"
    label = "label" if config.label is None else config.label
    count = len(count_labels(splits.train))
    return f"the column {label} has {count:,} different values"


def _input_encoding(task: str, rows: Rows) -> InputEncoding | None:
    """How the task encodes rows; None for a task of another package that does not say it."""
    if TASKS[task].input_encoding is not None:
        encoding: InputEncoding = TASKS.implementation(task, "input_encoding")
        return encoding
    return TEXTS_ENCODING if "text" in rows.columns else None


def _no_tokens_note(request: InspectConfig, encoding: InputEncoding | None) -> str:
    if encoding is None:
        return "the task does not describe how it encodes rows"
    name = request.model.tokenizer or request.model.path
    return (
        f"the tokenizer.json of {name} is not on this machine: set model.path=<folder>, or download"
        " it with a first training run"
    )


def _choose_rows(rows: Rows, splits: Splits, first: int) -> Rows:
    """The ``first`` rows, and further ones that are evenly spaced, of limited size."""
    names = [name for name in splits.schema.text_fields if name in rows.columns]
    characters = sum(
        pc.sum(pc.utf8_length(rows.arrow_column(name))).as_py() or 0
        for name in names
        if pa.types.is_large_string(rows.table.schema.field(name).type)
    )
    mean = max(1.0, characters / len(rows))
    count = max(1, min(len(rows), _MAX_TOKENIZED_ROWS, int(_MAX_TOKENIZED_CHARACTERS / mean)))
    mask = np.zeros(len(rows), bool)
    mask[np.linspace(0, len(rows) - 1, count).astype(np.int64)] = True
    mask[:first] = True
    return rows.select(mask)


def _token_facts(
    table: FeatureTable, tokenizer: FileTokenizer, model: str, max_length: int
) -> TokenFacts:
    lengths, cut_rows, cut_tokens = table.lengths, None, None
    if "cut_tokens" in table.columns:
        cut = table.read_column("cut_tokens")
        lengths = lengths + cut
        cut_rows = float((cut > 0).mean())
        cut_tokens = float(cut.sum() / lengths.sum())
    features_per_row = np.bincount(table.read_column("row"), minlength=len(table.rows))
    special = SpecialTokenIds(tokenizer.unk_token_id, tuple(tokenizer.all_special_ids))
    return TokenFacts(
        model,
        len(table.rows),
        max_length,
        length_quantiles(lengths),
        cut_rows,
        cut_tokens,
        float((features_per_row > 1).mean()),
        unknown_token_share(table, special),
    )


def _first_rows(table: FeatureTable, tokenizer: FileTokenizer, count: int) -> list[ShownRow]:
    rows = table.rows
    feature_rows = table.read_column("row")
    shown = []
    for row in range(count):
        features = np.flatnonzero(feature_rows == row)[:1]
        if not len(features):
            continue
        tokens = tokenizer.tokens(table.gather("input_ids", features).tolist())
        label = rows.value("label", row) if rows.has_labels else None
        if "word" in table.columns and isinstance(label, list):
            tokens = _with_tags(tokens, table.gather("word", features).tolist(), label)
            label = None
        shown.append(ShownRow(rows.location(row), _format_label(label, rows), tokens))
    return shown


def _with_tags(tokens: Sequence[str], words: Sequence[int], tags: Sequence[str]) -> list[str]:
    """``tokens`` with the tag after the first token of each word of an entity."""
    return [
        f"{token}/{tags[word]}" if word >= 0 and tags[word] != "O" else token
        for token, word in zip(tokens, words, strict=True)
    ]


def _format_label(label: Any, rows: Rows) -> str:
    if label is None:
        return ""
    if isinstance(label, list):
        if "context" in rows.columns:
            return label[0] if label else "(no answer)"
        return ", ".join(map(str, label)) or "(no label)"
    return f"{label:g}" if isinstance(label, float) else str(label)
