"""Propose settings for a file whose columns were not found, from its first rows.

The formats CoNLL, SQuAD and CMRC 2018 belong to one task each, which is proposed if the reader of
that task can read the file. So is token classification for texts with spans.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from bertft.config.data import DataConfig
from bertft.config.data_files import file_extension
from bertft.data.annotated_spans import is_spans
from bertft.data.data_sources import read_records
from bertft.data.formats import detect_format
from bertft.data.guess_columns import propose_settings
from bertft.data.readers.label_studio import list_controls
from bertft.data.rows import BadRows, RowError
from bertft.data.schema import (
    ANSWER_COLUMN,
    EXCLUDED_ANSWERS,
    ColumnNotFound,
    ColumnSpec,
    RowSchema,
    build_row_schema,
)
from bertft.errors import DataError

__all__ = ["detect_columns", "propose_columns", "propose_task", "propose_text_column"]

_SAMPLE_ROWS, _MAX_COLUMNS = 500, 1_000
_SAMPLE_SENTENCES = 50
_ENTITY_TAG = re.compile(r"O|[BIESLUM]-.+")
# A file with one of these extensions may have other content than CoNLL.
_TABLE_EXTENSIONS = (".tsv", ".tab", ".txt")
_CONLLU_EXTENSION = ".conllu"
_QUESTION_FORMATS = ("squad", "cmrc2018")
_CONLLU_COLUMNS = ["data.text=1", "data.label=3"]  # the words and their universal part of speech


def detect_columns(path: Path, config: DataConfig, task: str | None = None) -> list[str]:
    """Settings that read ``path``; empty if it has the columns text and label.

    Args:
        task: data.task; None: it is detected.

    Raises:
        ColumnNotFound: it has other columns, and which of them are text and label is unclear.
        DataError: the file cannot be read.
    """
    if task is None and (settings := propose_task(path, config)):
        return settings
    given = [] if task is None else [f"data.task={task}"]
    config = replace(config, task=task or config.task)
    if config.task == "token_classification" and file_extension(path) == _CONLLU_EXTENSION:
        return [*given, *_CONLLU_COLUMNS]
    schema = build_row_schema(config)
    records = read_records(path, schema, config, BadRows(str(path)))
    try:
        next(records, None)
    except ColumnNotFound as error:
        settings = propose_columns(path, schema, config, error)
        if settings:
            return [*given, *settings]
        raise
    return given


def propose_task(path: Path, config: DataConfig) -> list[str]:
    """The task of a file whose content belongs to one task, with its columns; empty for others."""
    extension = file_extension(path)
    for task, is_of_task in (
        ("token_classification", _is_conll),
        ("token_classification", _has_spans),
        ("question_answering", _has_questions),
    ):
        task_config = replace(config, task=task, text=None, label=None)
        settings = [f"data.task={task}"]
        if task == "token_classification" and extension == _CONLLU_EXTENSION:
            task_config = replace(task_config, text=1, label=3)
            settings += _CONLLU_COLUMNS
        try:
            if is_of_task(path, build_row_schema(task_config), task_config):
                return settings
        except (DataError, RowError):
            continue
    return []


def _is_conll(path: Path, schema: RowSchema, config: DataConfig) -> bool:
    """Whether the first sentences are CoNLL. May raise DataError or RowError if not."""
    extension = file_extension(path)
    if not extension or detect_format(path, schema, config, str(path)).name != "conll":
        return False
    bad = BadRows(str(path))
    records = islice(read_records(path, schema, config, bad), _SAMPLE_SENTENCES)
    label_index = schema.arrow_schema.get_field_index("label")
    tag_lists = [schema.parse(fields, "train", [])[label_index] for _, fields in records]
    if not tag_lists or bad.counts or not all(tag_lists):
        return False
    tags = {str(tag) for tag_list in tag_lists for tag in tag_list}
    return extension not in _TABLE_EXTENSIONS or all(map(_ENTITY_TAG.fullmatch, tags))


def _has_spans(path: Path, schema: RowSchema, config: DataConfig) -> bool:
    """Whether the first texts have spans, in the columns that are read without settings."""
    if detect_format(path, schema, config, str(path)).name == "conll":
        return False
    records = read_records(path, schema, config, BadRows(str(path)))
    position = len(schema.columns.text)
    labels = [fields[position] for _, fields in islice(records, _SAMPLE_SENTENCES)]
    values = [label for label in labels if label not in (None, "", [], {}, "[]")]
    return bool(values) and all(map(is_spans, values))


def _has_questions(path: Path, schema: RowSchema, config: DataConfig) -> bool:
    """Whether the file has the format of SQuAD or CMRC 2018. May raise DataError if not."""
    if detect_format(path, schema, config, str(path)).name not in _QUESTION_FORMATS:
        return False
    return next(read_records(path, schema, config, BadRows(str(path))), None) is not None


def propose_columns(
    path: Path, schema: RowSchema, config: DataConfig, error: ColumnNotFound
) -> list[str]:
    """Settings with which the file may be read, from its first rows; empty if unclear."""
    if config.task == "classification" and (settings := propose_task(path, config)):
        return settings
    return _propose(path, schema, config, error, config.task)


def propose_text_column(
    path: Path, schema: RowSchema, config: DataConfig, error: ColumnNotFound
) -> list[str]:
    """As ``propose_columns``, for a file of texts without labels; empty for text pairs."""
    if len(schema.columns.text) != 1:
        return []
    return _propose(path, schema, config, error, "masked_lm")  # the task of texts without labels


def _propose(
    path: Path, schema: RowSchema, config: DataConfig, error: ColumnNotFound, task: str
) -> list[str]:
    names, separator = list(error.names), error.separator
    if separator is not None:
        names = [name.strip().strip('"') for name in names[0].split(separator)]
    needed = 1 if task == "masked_lm" else 2
    if not needed <= len(names) <= _MAX_COLUMNS:
        return []
    sample_config = replace(config, header=True, separator=separator or config.separator)
    file_format = detect_format(path, schema, sample_config, str(path))
    is_csv = file_format.spec.has_separator
    sample_schema = copy.copy(schema)
    sample_schema.columns = ColumnSpec(tuple(range(len(names)) if is_csv else names), ())
    sample_schema.readers = {}  # with data.sentence, they group the rows
    try:
        records = read_records(path, sample_schema, sample_config, BadRows(str(path)))
        rows = [fields for _, fields in islice(records, _SAMPLE_ROWS)]
        is_label_studio = file_format.name == "label_studio"
        label_names = list_controls(path, sample_config) if is_label_studio else None
    except DataError:
        return []
    has_text = "data.text" not in error.missing and separator is None
    has_label = "data.label" not in error.missing and separator is None
    settings: list[str] = []
    for sample in (_accepted_rows(names, rows), rows):
        settings = settings or propose_settings(
            names,
            sample,
            task,
            list(schema.columns.text) if has_text else None,
            (list(schema.columns.resolve_alternatives(names).label) or None) if has_label else None,
            has_positions=is_csv,
            label_names=label_names,
        )
    if settings and "data.sentence" in error.missing and "data.sentence=" not in " ".join(settings):
        settings.append("data.sentence=null")  # each row of this file is a sentence
    if not settings or separator is None:
        return settings
    return [f"data.separator={'tab' if separator == chr(9) else separator}", *settings]


def _accepted_rows(names: Sequence[str], rows: Sequence[list[Any]]) -> list[list[Any]]:
    """The rows without those that an annotator of Prodigy rejected, which training leaves out.

    If the column of answers is the label, no other row may be left to propose it.
    """
    if ANSWER_COLUMN not in names:
        return list(rows)
    position = list(names).index(ANSWER_COLUMN)
    return [row for row in rows if str(row[position]) not in EXCLUDED_ANSWERS]
