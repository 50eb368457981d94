"""Detect the settings that read the rows of files: what ``bertft train`` needs on its command line.

The rows are loaded as ``train`` loads them. If that fails, the settings that its error proposes
are added, as a user would do, until it succeeds.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bertft.config.data import DataConfig
from bertft.config.data_files import file_extension
from bertft.config.overrides import parse_data_settings
from bertft.config.registry import READERS
from bertft.data.file_sets import FileSet
from bertft.data.propose_columns import propose_task, propose_text_column
from bertft.data.readers.compressed_files import open_binary
from bertft.data.readers.text_files import checked_head, is_wide_encoding, read_head
from bertft.data.sampled_files import FileSampler
from bertft.data.schema import ColumnNotFound, RowSchema, build_row_schema
from bertft.data.splits import Splits, load_splits
from bertft.data.text_detection import (
    detect_encoding,
    detect_text_format,
    guess_wide_encoding,
    is_binary,
)
from bertft.errors import DataError, UsageError
from bertft.utils.safe_files import unreadable

__all__ = ["DetectedSettings", "detect_container", "detect_settings"]

_TEXT_EXTENSION = ".txt"
_MAX_ROUNDS = 6
_HEAD_BYTES = 1 << 16
_MAX_FILES_WITH_LABELS = 100  # more files in one folder have no label in their names
_SEVERAL_LABELS = re.compile(r"^(?:__label__\S+[ \t]+){2}", re.MULTILINE)
_MAGIC_FORMATS = {b"PAR1": "parquet", b"ARROW1": "arrow"}


@dataclass
class DetectedSettings:
    """The settings that read a sample of the files, and its rows.

    Attributes:
        config: ``data`` with the detected settings.
        detected: the settings that were not configured, by name.
        file_set: the sampled files; None if their format is unknown.
        splits: the rows; None if there is an error.
        error: why the rows cannot be loaded.
    """

    config: DataConfig
    detected: dict[str, Any] = field(default_factory=dict)
    file_set: FileSet | None = None
    splits: Splits | None = None
    error: UsageError | None = None

    @property
    def schema(self) -> RowSchema:
        """The schema of the rows."""
        return build_row_schema(self.config)


def detect_container(path: Path, config: DataConfig) -> dict[str, Any]:
    """The settings that must be known before a file is sampled: ``format`` and ``encoding``.

    Raises DataError if the file cannot be read.
    """
    known = {extension for spec in READERS.specs().values() for extension in spec.extensions}
    try:
        with open_binary(path) as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise unreadable(error, path) from error
    if config.format is None and file_extension(path) not in known:
        for magic, name in _MAGIC_FORMATS.items():
            if head.startswith(magic):
                return {"format": name}
    specs = READERS.specs()
    named = [specs[config.format]] if config.format is not None else list(specs.values())
    candidates = [spec for spec in named if file_extension(path) in spec.extensions] or named
    if not any(spec.text for spec in candidates):
        return {}
    encoding = guess_wide_encoding(head)
    if encoding is None and is_binary(head) and not is_wide_encoding(config.encoding):
        checked_head(path, config.encoding, str(path))  # names the formats that it knows
        raise DataError(
            "is binary data, not text",
            where=str(path),
            hint="If it is text in another encoding, set data.encoding. The formats are listed by"
            " bertft train --help data.format",
        )
    return {} if encoding is None else {"encoding": encoding}


def detect_settings(
    sampler: FileSampler, config: DataConfig, configured: frozenset[str]
) -> DetectedSettings:
    """Detect the settings of ``config`` that are not ``configured``, and load the sample.

    ``configured``: names of settings that keep their values.
    """
    return _Detection(sampler, config, configured).run()


class _Detection:
    def __init__(
        self, sampler: FileSampler, config: DataConfig, configured: frozenset[str]
    ) -> None:
        self._sampler, self._configured = sampler, configured
        self._first = sampler.samples[0].path
        self._config = replace(config, on_bad_row="skip")
        self._detected: dict[str, Any] = {}

    def run(self) -> DetectedSettings:
        error: UsageError | None = None
        try:
            self._detect_format()
        except UsageError as format_error:
            error = format_error
        for _ in range(_MAX_ROUNDS if error is None else 0):
            try:
                splits = load_splits(self._config, ("train",), open_files=self._sampler.open)
                return self._result(splits)
            except UsageError as load_error:
                error = load_error
                if self._apply(self._proposals(load_error)):
                    continue
                if self._config.max_skipped == 1:
                    break
                self._config = replace(self._config, max_skipped=1.0)  # they are counted
        return self._result(None, error)

    def _result(self, splits: Splits | None, error: UsageError | None = None) -> DetectedSettings:
        file_set = None
        try:
            schema = build_row_schema(self._config)
            file_set = self._sampler.open(self._config.train, "data.train", schema, self._config)
        except UsageError as format_error:
            error = error or format_error
        return DetectedSettings(self._config, self._detected, file_set, splits, error)

    def _apply(self, settings: Sequence[str]) -> bool:
        """Add ``settings`` that are not configured; whether any of them is new."""
        new = {
            name: value
            for name, value in parse_data_settings(settings).items()
            if name not in self._configured and getattr(self._config, name) != value
        }
        self._config = replace(self._config, **new)
        self._detected |= new
        return bool(new)

    def _proposals(self, error: UsageError) -> list[str]:
        """The settings that may read the rows in spite of ``error``."""
        if error.proposed_settings:
            return list(error.proposed_settings)
        is_open = not {"task", "label"} & self._configured
        if not (isinstance(error, ColumnNotFound) and error.path is not None and is_open):
            return []
        has_no_label = "data.label" in error.missing or len(error.names) == 1
        if self._config.task != "classification" or not has_no_label:
            return []
        config = replace(self._config, task="masked_lm")  # texts without labels
        text = propose_text_column(error.path, build_row_schema(config), config, error)
        has_text = "data.text" not in error.missing
        return ["data.task=masked_lm", *text] if text or has_text else []

    def _detect_format(self) -> None:
        """The encoding, and the format of a file whose extension does not decide it."""
        config = self._config
        extension = file_extension(self._first)
        specs = READERS.specs().values()
        is_text = not any(extension in spec.extensions and not spec.text for spec in specs)
        is_text = is_text and (config.format is None or READERS[config.format].text)
        if is_text and config.encoding == type(config).encoding:
            self._apply_encoding()
        head = read_head(self._first, self._config.encoding) if is_text else ""
        if is_text and not head and len(self._sampler.samples) == 1:
            raise DataError("the file is empty", where=self._sampler.source)
        if not {"task", "format"} & self._configured and self._apply(
            propose_task(self._first, self._config)
        ):
            return
        is_known = any(extension in spec.extensions for spec in specs)
        if "format" in self._configured or not is_text or config.format is not None:
            return
        if head.lstrip().startswith("__label__") and _SEVERAL_LABELS.search(head):
            self._apply(["data.task=multi_label"])
        if is_known and extension != _TEXT_EXTENSION:
            return
        if "separator" in self._configured or (
            is_known and READERS.implementation("fasttext", "matches")(head)
        ):
            return
        settings = detect_text_format(head)
        if not settings:
            has_label = "label" in self._configured
            settings = [] if has_label else self._derived_label() or ["data.task=masked_lm"]
            if settings[:1] == ["data.task=masked_lm"] and not is_known:
                settings = ["data.format=text", *settings]
        self._apply(settings)

    def _apply_encoding(self) -> None:
        with open_binary(self._first) as file:
            encoding = detect_encoding(file.read())
        if encoding is not None:
            self._apply([f"data.encoding={encoding}"])

    def _derived_label(self) -> list[str]:
        """data.label for texts whose folder or file has the name of their class."""
        paths = self._sampler.paths
        if len(paths) < 2 or {"label", "task"} & self._configured:
            return []
        if len({path.parent for path in paths}) > 1:
            return ["data.label=@folder"]
        return ["data.label=@file"] if len(paths) <= _MAX_FILES_WITH_LABELS else []
