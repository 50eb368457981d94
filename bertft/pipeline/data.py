"""The rows that a run recorded: read again, and compared with what was recorded."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

from bertft.config.choices import SPLITS
from bertft.config.data import DataConfig
from bertft.data.labels import format_mapping_note
from bertft.data.rows import Rows
from bertft.data.schema import ColumnNotFound
from bertft.data.splits import Splits, load_splits
from bertft.errors import DataError, UsageError
from bertft.pipeline.loaded_model import LoadedModel
from bertft.pipeline.manifest import read_manifest, recorded_data

__all__ = [
    "check_recorded_rows",
    "describe_sources",
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
