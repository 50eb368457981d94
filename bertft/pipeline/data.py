"""The splits as feature tables, tokenised once and kept in the cache."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa

from bertft.config.choices import SPLITS
from bertft.config.data import DataConfig
from bertft.data.classes import format_mapping_note
from bertft.data.features import FeatureTable, featurize, tokenizer_hash
from bertft.data.rows import BadRows, RowError, Rows, check_skipped_share, raise_or_skip
from bertft.data.schema import ColumnNotFound
from bertft.data.splits import Splits, load_splits
from bertft.errors import DataError, UsageError
from bertft.pipeline.loaded_model import LoadedModel
from bertft.pipeline.manifest import read_manifest, recorded_data
from bertft.tasks.task import BaseTask

__all__ = [
    "build_features",
    "build_unlabelled_features",
    "check_recorded_rows",
    "describe_sources",
    "feature_key_parts",
    "is_named_on_command_line",
    "load_split",
    "only_recorded",
]


def is_named_on_command_line(split: str, data: DataConfig, cli_settings: Collection[str]) -> bool:
    """Whether the command line (``cli_settings``) says where the rows of ``split`` are."""
    if "data" in cli_settings:
        return True
    if data.source == "hub" and getattr(data, split, None) is None:
        return "data.hub" in cli_settings
    return f"data.{split}" in cli_settings or f"data.{data.source}" in cli_settings


def check_recorded_rows(
    splits: Splits,
    manifest: Mapping[str, Any],
    data: DataConfig,
    cli_settings: Collection[str] = (),
) -> None:
    """DataError where a split that the command line does not name is another one than recorded."""
    for name, rows in splits.items():
        source_split = "train" if name == "validation" and splits.validation_from_train else name
        if is_named_on_command_line(source_split, data, cli_settings):
            continue
        recorded_split = manifest["data"]["splits"].get(name)
        if recorded_split is None or recorded_split["fingerprint"] != rows.fingerprint:
            raise DataError(
                f"the {name} rows are not those that the run recorded",
                where=rows.source,
                hint="Put them back as they were. To score these rows, add"
                f" {_source_setting(source_split, rows, data)} to bertft eval",
            )


@contextmanager
def only_recorded(
    data: DataConfig, typed: Collection[str] = (), prove: Callable[[], None] | None = None
) -> Iterator[None]:
    """A file that does not read as it did when it was recorded is another one: nothing of it is
    quoted, as it would be where the command line names it.

    Where the command line changes how rows are read, ``prove`` reads them as the run did: it raises
    DataError unless they are the recorded ones, of which an error may be told.
    """
    try:
        yield
    except DataError as error:
        given = [name for name in (*SPLITS, "unlabelled") if getattr(data, name, None) is not None]
        about_content = isinstance(error, ColumnNotFound) or not _is_setting(error.where)
        if (
            data.source != "files"
            or not about_content
            or any(is_named_on_command_line(name, data, typed) for name in given)
        ):
            raise
        other_reading = any(name.startswith("data.") for name in typed)
        if prove is not None and other_reading and _holds(prove):
            raise
        raise DataError(
            "the rows are not those that the run recorded: they cannot be read as they were then",
            where=", ".join(f"data.{name}={getattr(data, name)}" for name in given),
            hint="Put the files back as they were. To see what is wrong with one, name it, as in"
            f" data.{given[-1]}={shlex.quote(str(getattr(data, given[-1])))}",
        ) from None


def _holds(prove: Callable[[], None]) -> bool:
    try:
        prove()
    except DataError:
        return False
    return True


def _is_setting(where: str | None) -> bool:
    """Whether an error is about a setting, such as the name of a file that is not there."""
    return where is not None and where.startswith("data.")


def _source_setting(split: str, rows: Rows, data: DataConfig) -> str:
    if rows.files:
        return f"data.{split}={shlex.quote(rows.files[0])}"
    return f"data.{data.source}={shlex.quote(str(getattr(data, data.source, None)))}"


def describe_sources(data: DataConfig) -> str:
    """Which recorded rows are about to be read."""
    if data.source == "files":
        names = [name for name in (*SPLITS, "unlabelled") if getattr(data, name) is not None]
        settings = [f"data.{name}={getattr(data, name)}" for name in names]
    else:
        settings = [f"data.{data.source}={getattr(data, data.source, None)}"]
    return f"reading the rows that the run recorded: {', '.join(settings)}"


def load_split(
    loaded: LoadedModel,
    split: str,
    log: Callable[[str], None] | None = None,
    cli_settings: Collection[str] = (),
) -> Rows:
    """The rows of ``split``; their labels are classes of the model, by name.

    ``log`` gets what is worth knowing about them. ``cli_settings``: the settings of the command
    line, which alone can name other rows than the run recorded, or have them fetched. UsageError if
    there are none, or none with labels; DataError where recorded rows changed.
    """
    if loaded.unnamed_tags:
        raise UsageError(
            loaded.unnamed_tags,
            where="data.labels",
            hint="Name them in the order of the outputs: data.labels=[O,B-PER,I-PER,...]",
        )
    # Of a run's training rows, those that validation was cut from are not part.
    needed_splits = (
        ("train", "validation") if split == "train" and loaded.run is not None else (split,)
    )
    data, manifest = loaded.data, None
    if loaded.run is not None and "data" not in cli_settings:
        manifest = read_manifest(loaded.run)
        data = recorded_data(data, manifest, cli_settings)

    def prove() -> None:
        assert loaded.config is not None and manifest is not None
        own = recorded_data(loaded.config.data, manifest)
        found = load_splits(
            own, needed_splits, model_classes=loaded.task_model.task.class_names, cached_only=True
        )
        check_recorded_rows(found, manifest, own)

    with only_recorded(data, cli_settings, prove) if manifest is not None else nullcontext():
        splits = load_splits(
            data,
            needed_splits,
            model_classes=loaded.task_model.task.class_names,
            cached_only=manifest is not None and "data.hub" not in cli_settings,
        )
    if manifest is not None:
        check_recorded_rows(splits, manifest, data, cli_settings)
    for note in [*splits.schema.notes(), format_mapping_note(splits.schema.label_mapping)]:
        if log is not None and note:
            log(note)
    rows = dict(splits.items()).get(split)
    if rows is None or (loaded.task_model.task.needs_labels and not rows.has_labels):
        raise UsageError(
            f"there is no {split} split" if rows is None else f"the {split} split has no labels",
            where="split",
            hint=f"Give data.{split}=<file> with labels, or another split",
        )
    return rows


def build_features(
    rows: Mapping[str, Rows],
    task: BaseTask,
    tokenizer: Any,
    max_length: int,
    cache: Path | None,
    on_bad_row: str = "error",
    max_skipped: float | None = None,
) -> dict[str, FeatureTable]:
    """Split name → table, of the splits that have rows with what the task needs of them.

    Rows that give no feature are bad rows, found here because it takes a tokenizer: DataError
    names them, or they are left out and counted with the others of their ``Rows``; with
    ``max_skipped`` DataError where those together are a larger share.
    """
    encode = task.make_encoder(tokenizer, max_length)
    key = feature_key_parts(task, tokenizer, max_length)
    fault, tables = task.no_feature_error(max_length), {}
    for name, rows_of_split in rows.items():
        if (rows_of_split.has_labels or not task.needs_labels) and len(rows_of_split):
            tables[name] = featurize(rows_of_split, encode, key, cache, hint=fault.detail)
            _handle_rows_without_features(tables[name], fault, on_bad_row, max_skipped)
    return tables


def build_unlabelled_features(
    rows: Rows,
    task: BaseTask,
    tokenizer: Any,
    max_length: int,
    cache: Path | None,
    on_bad_row: str = "error",
    max_skipped: float | None = None,
) -> FeatureTable:
    """The table of rows without labels; bad rows as in ``build_features``."""
    fault = task.no_feature_error(max_length)
    encode, key = (
        task.make_encoder(tokenizer, max_length),
        feature_key_parts(task, tokenizer, max_length),
    )
    table = featurize(rows, encode, key, cache, hint=fault.detail)
    _handle_rows_without_features(table, fault, on_bad_row, max_skipped)
    return table


def feature_key_parts(task: BaseTask, tokenizer: Any, max_length: int) -> list[Any]:
    """What features depend on beside their rows."""
    return [task.cache_key(), max_length, tokenizer_hash(tokenizer)]


def _handle_rows_without_features(
    table: FeatureTable, fault: RowError, policy: str, max_skipped: float | None
) -> None:
    rows = table.rows
    has_feature = table.rows_with_features()
    if has_feature.all():
        return
    bad = BadRows(rows.source, rows.unit, keep_all=rows.all_errors is not None)
    bad.read = len(rows)
    for line in rows.arrow_column("line").filter(pa.array(~has_feature)).to_pylist():
        bad.add(line, fault)
    raise_or_skip([bad], policy)
    if rows.all_errors is not None and bad.all_errors is not None:
        rows.all_errors.extend(bad.all_errors)
    skipped_before = rows.skipped.total()
    rows.skipped.update(bad.counts)
    if max_skipped is None:
        return
    # Of rows drawn from many, those without a feature stand for as large a share of all.
    share = len(bad) / len(rows)
    bad.counts, bad.first = rows.skipped, [*rows.first_errors, *bad.first]
    check_skipped_share(
        bad, skipped_before + share * (rows.read - skipped_before), rows.read, max_skipped
    )
