"""``load_splits``: read, check, split and sample the configured data.

    read → normalize labels → map labels to classes → raise or skip bad rows
         → drop listed rows → hold out a fold as test → hold out validation → draw samples

Randomness depends on data.seed alone, so that all runs of a sweep use the same rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bertft.config.choices import SPLITS
from bertft.config.data import DataConfig
from bertft.config.data_files import resolve_files
from bertft.data.data_sources import (
    DataSource,
    OpenFiles,
    open_file,
    open_sample,
    read_rows,
)
from bertft.data.dropped_rows import drop_listed_rows
from bertft.data.file_sets import open_files
from bertft.data.folds import assign_folds, hold_out_fold
from bertft.data.formats import names_local_files
from bertft.data.hold_out import hold_out_validation, sample_rows
from bertft.data.labels import (
    distinct_labels,
    is_unlabelled,
    map_labels_to_classes,
    missing_label_mask,
)
from bertft.data.propose_columns import propose_columns, propose_task
from bertft.data.readers.unmarked_header import check_unmarked_header
from bertft.data.rows import (
    BadRows,
    RowError,
    Rows,
    drop_rows,
    no_usable_row_error,
    raise_or_skip,
)
from bertft.data.schema import ColumnNotFound, LabelReader, RowSchema, build_row_schema
from bertft.errors import DataError, UsageError
from bertft.utils.messages import end_sentence, quote_for_shell

__all__ = [
    "Splits",
    "check_folds",
    "load_all_rows",
    "load_sample_inputs",
    "load_splits",
    "load_unlabelled",
]


_LABELS_NEEDED_HINTS = {
    "validation": "Rows without labels cannot be scored: without data.validation, a part of train"
    " is held out",
    "test": "Rows without labels cannot be scored: leave out data.test and use bertft predict",
}


@dataclass
class Splits:
    """``class_names``: the class names in order, None if ``schema`` has no classes.

    ``validation_from_train``: validation was held out from train. ``unlabelled``: rows for
    distillation alone, which ``load_splits`` does not read. A test split whose labels are not
    public (all −1 or empty) has no ``label`` column. ``notes``: notes about the labels.
    ``label_mapping``: label of a file → class, for every label that was read as another text.
    ``named_labels``: the value of data.labels that was derived from the name of the label column.
    """

    train: Rows | None
    validation: Rows | None
    test: Rows | None
    class_names: list[str] | None
    validation_from_train: bool
    schema: RowSchema
    named_labels: list[str] | None = None
    notes: Sequence[str] = ()
    label_mapping: Mapping[str, str] = field(default_factory=dict)
    unlabelled: Rows | None = None

    def items(self) -> list[tuple[str, Rows]]:
        """(name, rows) of the splits that are not None."""
        pairs = [(name, getattr(self, name)) for name in (*SPLITS, "unlabelled")]
        return [(name, rows) for name, rows in pairs if rows is not None]


def load_splits(
    config: DataConfig,
    needed: Sequence[str] = SPLITS,
    model_classes: list[str] | None = None,
    training: bool = True,
    cached_only: bool = False,
    name_binary_column: bool = False,
    open_files: OpenFiles = open_files,
) -> Splits:
    """The configured splits.

    The classes are ``model_classes``, else data.labels, else those that the source declares, else
    those that occur in train (or in the first split that is read).

    Args:
        needed: names of splits; those that do not exist are None.
        model_classes: the classes of a trained model that is scored.
        training: False if train is scored like validation.
        cached_only: nothing is downloaded; a data set of the Hub must be in the local cache.
        name_binary_column: the classes of a 0/1 column ``toxic`` are "not toxic" and "toxic".
        open_files: as for ``open_file``.

    Raises:
        DataError: a file or its rows are invalid.
        UsageError: the settings do not fit the data.
        SystemResourceError: a data set cannot be downloaded.
    """
    schema = build_row_schema(config)
    labels = schema.label_reader(model_classes)
    classes_known = config.labels is not None or model_classes is not None
    sources: dict[str, DataSource] = {}
    for name in _splits_to_read(config, needed, schema, classes_known):
        open_split = _open_split if sources or model_classes is not None else _open_first_split
        sources[name] = open_split(config, name, schema, cached_only, open_files)
    if not sources:
        raise UsageError(
            f"there is no {' or '.join(needed)} split",
            where="data",
            hint=f"Set data.{next(iter(needed), 'train')}=<file>",
        )
    loading = {
        name: _LoadingSplit.read(
            source,
            schema,
            "validation" if name == "train" and not training else name,
            config,
            proposes_columns=name == next(iter(sources)),
            has_fixed_task=model_classes is not None,
        )
        for name, source in sources.items()
    }
    _check_group_column(loading, config)
    first_split = next(iter(loading.values()))
    declared_classes = first_split.source.class_names
    known_labels: list[str | float] = [
        str(label)
        for labels_of_source in (config.labels, declared_classes, model_classes)
        for label in labels_of_source or ()
    ]
    for name, split in loading.items():
        split.handle_missing_labels(known_labels)
        if name == "train":
            known_labels += split.observed_labels()
    labels.check_types(first_split.table, declared_classes, first_split.bad)
    for split in loading.values():
        split.table = labels.normalize(split.table, declared_classes, split.bad)
    names = labels.class_names(first_split.table, declared_classes)
    named_labels = None
    if name_binary_column and names is not None and declared_classes is None:
        named_labels = labels.name_binary_column(names)
    if named_labels is not None:
        names = named_labels
    configured_labels = config.labels if named_labels is None else named_labels
    for split in loading.values():
        split.map_labels(names, configured_labels, labels.label_mapping)
    raise_or_skip([split.bad for split in loading.values()], config.on_bad_row, config.max_skipped)
    for name, split in loading.items():
        _check_not_empty(split)
        if training and name == "train":
            _check_learnable(split, labels)
    rows = {name: split.to_rows() for name, split in loading.items()}
    if config.drop_rows is not None and "train" in rows:
        rows["train"] = drop_listed_rows(rows["train"], config.drop_rows, config.label_separator)
    if _uses_fold(config) and "train" in rows:
        rows["train"], rows["test"] = hold_out_fold(rows["train"], config, schema)
    validation_from_train = "validation" in needed and "validation" not in rows
    if validation_from_train:
        rows["train"], rows["validation"] = hold_out_validation(
            rows["train"],
            config.validation_fraction,
            config.seed,
            schema.is_stratified(),
            schema.group_field,
            config.group if schema.group_field == "group" else None,
        )
    sizes = {"train": config.max_train_rows, "validation": config.max_validation_rows}
    sampled = {
        name: sample_rows(rows[name], sizes.get(name), config.seed, f"data.max_{name}_rows")
        if name in rows and name in needed
        else None
        for name in SPLITS
    }
    return Splits(
        **sampled,
        class_names=names,
        validation_from_train=validation_from_train,
        schema=schema,
        named_labels=named_labels,
        notes=list(dict.fromkeys(labels.notes)),
        label_mapping=labels.label_mapping,
    )


def load_all_rows(config: DataConfig) -> Splits:
    """All rows of data.train as ``train``, from which the splits of every fold are taken."""
    whole = replace(
        config, folds=None, fold=1, repeat=1, validation=None, test=None, max_train_rows=None
    )
    return load_splits(whole, ("train",), name_binary_column=True)


def check_folds(rows: Rows, schema: RowSchema, config: DataConfig) -> np.ndarray:
    """The fold of each row, int64 [rows], after checking the splits of every fold.

    Raises:
        DataError: the rows cannot be split into folds, or the rows outside of a fold cannot be
            split into training and validation rows.
    """
    folds = assign_folds(rows, config, schema)
    for fold in range(1, int(config.folds or 0) + 1):
        try:
            hold_out_validation(
                rows.select(folds != fold),
                config.validation_fraction,
                config.seed,
                schema.is_stratified(),
                schema.group_field,
            )
        except DataError as error:
            raise DataError(
                f"outside of fold {fold}, {error.what}",
                where=error.where,
                hint="Choose another number of folds, or add rows",
            ) from error
    return folds


def load_unlabelled(name: Any, config: DataConfig) -> Rows:
    """The rows of ``name``, the value of data.unlabelled, without labels.

    Raises:
        DataError: the file or its rows are invalid.
    """
    schema = build_row_schema(config, labelled=False)
    setting = "data.unlabelled"
    split = _LoadingSplit.read(open_file(config, name, setting, schema), schema, setting, config)
    raise_or_skip([split.bad], config.on_bad_row, config.max_skipped)
    return split.to_rows()


def load_sample_inputs(config: DataConfig, split: str) -> Rows:
    """Rows of ``split`` of the configured bundled sample, without labels."""
    schema = build_row_schema(config, labelled=False)
    return _LoadingSplit.read(
        open_sample(config, split, schema.columns), schema, split, config
    ).to_rows()


@dataclass
class _LoadingSplit:
    """One split while it is loaded: from records to ``Rows``."""

    name: str
    source: DataSource
    schema: RowSchema
    table: pa.Table
    bad: BadRows

    @classmethod
    def read(
        cls,
        source: DataSource,
        schema: RowSchema,
        name: str,
        config: DataConfig,
        proposes_columns: bool = False,
        has_fixed_task: bool = False,
    ) -> _LoadingSplit:
        """Read ``source``.

        Args:
            proposes_columns: an error about missing columns proposes those of the file. Only for
                the first split: the settings hold for all splits.
            has_fixed_task: settings with another data.task are not proposed.

        Raises:
            DataError: the file cannot be read.
        """
        try:
            split = cls(name, source, schema, *read_rows(source, schema, name, config))
            if source.file_set is not None and source.file_set.first.format.spec.has_separator:
                check_unmarked_header(split.table, split.bad, schema, config)
            return split
        except ColumnNotFound as error:
            if proposes_columns and error.path is not None:
                settings = propose_columns(error.path, schema, config, error)
                changes_task = any(setting.startswith("data.task=") for setting in settings)
                error.proposed_settings = [] if has_fixed_task and changes_task else settings
                if not error.proposed_settings:
                    _point_to_inspect(error, source)
            if not error.only_labels_missing or name not in _LABELS_NEEDED_HINTS:
                raise
            hint = f"Set data.label=<column>. {_LABELS_NEEDED_HINTS[name]}"
            labels_error = DataError(error.what, where=error.where, hint=hint)
            labels_error.proposed_settings = error.proposed_settings
            raise labels_error from error
        except DataError as error:
            if proposes_columns and not has_fixed_task and source.file_set is not None:
                _propose_other_task(error, source.file_set.first.path, config)
            raise

    def observed_labels(self) -> list[str | float]:
        """The labels that occur; empty for lists of labels."""
        if "label" not in self.table.column_names:
            return []
        is_list = pa.types.is_list(self.table.schema.field("label").type)
        return [] if is_list else distinct_labels(self.table)

    def handle_missing_labels(self, known_labels: Collection[str | float]) -> None:
        """Rows without a label are bad rows, except in a test split without any labels.

        ``known_labels``: the labels of other splits and of the configuration.
        """
        if "label" not in self.table.column_names or not self.table.num_rows:
            return
        if self.bad.invalid_labels or not is_unlabelled(self.table, known_labels):
            error = RowError("missing label", "no label")
            self.table = drop_rows(self.table, [(missing_label_mask(self.table), error)], self.bad)
        elif self.name == "test":
            missing = "−1, as in public test sets" if self.observed_labels() else "empty"
            self.bad.notes.append(f"all labels are {missing}: the split is treated as unlabelled")
            self.table = self.table.drop_columns(list(self.schema.label_fields))
        else:
            raise DataError(
                "no row has a label", where=self.source.source, hint=self.schema.missing_label_hint
            )

    def map_labels(
        self, names: Sequence[str] | None, labels: Any, label_mapping: dict[str, str]
    ) -> None:
        """Map labels to ``names``, and add the labels that change to ``label_mapping``.

        ``labels``: data.labels. Rows with other labels are bad rows.
        """
        if names is not None and "label" in self.table.column_names:
            self.table, masked_errors = map_labels_to_classes(
                self.table,
                names,
                labels,
                source=self.source.source,
                training=self.name == "train",
                applied=label_mapping,
            )
            self.table = drop_rows(self.table, masked_errors, self.bad)

    def to_rows(self) -> Rows:
        self.bad.check_row_counts(self.table.num_rows)
        return Rows(self.table, self.bad, self.source.files, unused=Counter(self.bad.excluded))


def _check_group_column(loading: Mapping[str, _LoadingSplit], config: DataConfig) -> None:
    """DataError if no training row has a group: the column probably does not exist."""
    train = loading.get("train")
    if train is None or train.table.num_rows or not train.bad.counts["missing group"]:
        return
    raise DataError(
        f"no row has a value in the column {config.group!r}, or there is no such column",
        where=f"data.group={config.group}: {train.bad.source}",
        hint="Set data.group=<column of the groups>, or leave it out",
    )


def _check_not_empty(split: _LoadingSplit) -> None:
    if split.table.num_rows == 0:
        raise no_usable_row_error(split.bad)


def _check_learnable(split: _LoadingSplit, labels: LabelReader) -> None:
    if problem := labels.nothing_to_learn(split.table):
        raise DataError(
            problem,
            where=split.bad.source,
            hint=f"There is nothing to learn. {split.schema.missing_label_hint}",
        )


def _splits_to_read(
    config: DataConfig, needed: Sequence[str], schema: RowSchema, classes_known: bool
) -> list[str]:
    """Splits to read, train first: it provides validation rows and classes if needed."""
    available = _available_splits(config, schema)
    splits = set(needed) & available
    if "validation" in needed and "validation" not in available:
        splits.add("train")
    if "test" in needed and _uses_fold(config):
        splits.add("train")
    if config.source == "hub" and "train" in needed:  # for files, the configuration checks this
        splits.add("train")
    if not classes_known and schema.has_classes and "train" in available:
        splits.add("train")
    if "train" in splits and "train" not in available:
        raise UsageError("no training file", where="data.train", hint="Set data.train=<file>")
    return [name for name in SPLITS if name in splits]


def _uses_fold(config: DataConfig) -> bool:
    """Whether a fold of the training rows is the test split; ``eval data.test=`` names others."""
    return config.folds is not None and config.test is None


def _available_splits(config: DataConfig, schema: RowSchema) -> set[str]:
    """The splits that are configured or exist.

    With a local file in data.train, validation or test, no split of the Hub is added: rows of two
    sources would be used as one data set.
    """
    if config.source == "sample":
        return {"train"} if config.folds is not None else set(SPLITS)
    configured = {name for name in SPLITS if getattr(config, name)}
    if config.source != "hub":
        return configured
    local_files = {
        name for name in configured if names_local_files(getattr(config, name), config, schema)
    }
    return local_files or configured | {"train"}


def _open_first_split(
    config: DataConfig, name: str, schema: RowSchema, cached_only: bool, open_files: OpenFiles
) -> DataSource:
    """``_open_split``; an error about the format of a file proposes another task."""
    try:
        return _open_split(config, name, schema, cached_only, open_files)
    except DataError as error:
        if config.source == "files":
            with suppress(DataError):
                files = resolve_files(getattr(config, name), f"data.{name}")
                _propose_other_task(error, files[0], config)
        raise


def _point_to_inspect(error: DataError, source: DataSource) -> None:
    """Add the command that shows the columns to the hint of ``error``, unless it is running."""
    if source.file_set is None or not source.file_set.is_cacheable:
        return
    hint = f"bertft inspect {quote_for_shell(source.source)} shows the columns and rows"
    error.hint = f"{end_sentence(error.hint)} {hint}" if error.hint else hint


def _propose_other_task(error: DataError, path: Path, config: DataConfig) -> None:
    """Add settings with the task of ``path`` to ``error``, if the task is not configured."""
    if config.task == "classification":
        error.proposed_settings = error.proposed_settings or propose_task(path, config)


def _open_split(
    config: DataConfig, name: str, schema: RowSchema, cached_only: bool, open_files: OpenFiles
) -> DataSource:
    if config.source == "sample":
        return open_sample(config, name, schema.columns)
    configured = getattr(config, name)
    is_file = configured and names_local_files(configured, config, schema)
    if config.source == "hub" and not is_file:
        from bertft.data.hub import open_hub_split

        return open_hub_split(config, configured or name, schema.columns, cached_only)
    return open_file(config, configured, f"data.{name}", schema, open_files)
