"""Read the rows of an existing run again, and check them against its manifest.

``bertft eval`` and ``bertft report`` score the rows that a run recorded, unless the command line
names others. A run folder may come from somebody else and name any file of this machine: an error
about a recorded file must not quote its content.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from bertft.config.choices import SPLITS
from bertft.config.data import DataConfig
from bertft.config.data_files import format_names
from bertft.data.labels import format_mapping_note
from bertft.data.rows import Rows
from bertft.data.schema import ColumnNotFound
from bertft.data.splits import Splits, load_splits
from bertft.errors import DataError, UsageError
from bertft.pipeline.loaded_model import LoadedModel
from bertft.pipeline.manifest import recorded_data
from bertft.runs.manifest import Manifest, read_manifest

__all__ = [
    "check_recorded_rows",
    "describe_sources",
    "hide_recorded_content",
    "is_named_on_command_line",
    "load_split",
]


def is_named_on_command_line(split: str, data: DataConfig, cli_settings: Collection[str]) -> bool:
    """Whether the settings of the command line name the rows of ``split``."""
    if "data" in cli_settings:
        return True
    if data.source == "hub" and getattr(data, split, None) is None:
        return "data.hub" in cli_settings
    return f"data.{split}" in cli_settings or f"data.{data.source}" in cli_settings


def check_recorded_rows(
    splits: Splits,
    manifest: Manifest,
    data: DataConfig,
    cli_settings: Collection[str] = (),
    hint: str | None = None,
) -> None:
    """Raise DataError if the rows of a split differ from those that ``manifest`` records.

    Splits that the command line names are not checked. ``hint``: what to do instead of naming the
    rows on the command line of ``bertft eval``.
    """
    for name, rows in splits.items():
        is_part_of_train = (name == "validation" and splits.validation_from_train) or (
            name == "test" and data.folds is not None and data.test is None
        )
        source_split = "train" if is_part_of_train else name
        if is_named_on_command_line(source_split, data, cli_settings):
            continue
        recorded_split = manifest["data"]["splits"].get(name)
        if recorded_split is None or recorded_split["fingerprint"] != rows.fingerprint:
            setting = _source_setting(source_split, rows, data)
            action = hint or f"To score these rows, add {setting} to bertft eval"
            raise DataError(
                f"the {name} rows are not those that the run was trained with",
                where=rows.source,
                hint=f"Restore the file. {action}",
            )


@contextmanager
def hide_recorded_content(
    data: DataConfig,
    cli_settings: Collection[str] = (),
    read_recorded: Callable[[Collection[str]], None] | None = None,
    hint: str | None = None,
) -> Iterator[None]:
    """A context in which errors about a recorded file do not quote the content of the file.

    They are replaced by an error that the file has changed. Errors about files that the command
    line names are not replaced.

    Args:
        read_recorded: reads the splits with these names as the run did and raises DataError unless
            they hold the recorded rows. Used if the command line names other splits or changes how
            rows are read: if it succeeds, the error is not about the content of a recorded file,
            and is not replaced.
        hint: what to do instead of naming a file on the command line.
    """
    try:
        yield
    except DataError as error:
        recorded = _recorded_sources(data, cli_settings)
        about_content = isinstance(error, ColumnNotFound) or not _is_setting(error.where)
        if data.source == "sample" or not about_content or not recorded:
            raise
        splits = [name for name in SPLITS if not is_named_on_command_line(name, data, cli_settings)]
        reads_other_rows = any(name == "data" or name.startswith("data.") for name in cli_settings)
        if read_recorded is not None and reads_other_rows and _succeeds(read_recorded, splits):
            raise
        # The file with the error, if its name is in the location.
        named = [name for name in recorded.values() if name in (error.where or "")]
        value = shlex.quote((named or list(recorded.values()))[0])
        setting = "data.hub" if "data.hub" in recorded else "data.validation"
        action = hint or f"To see the error in it, run bertft eval with {setting}={value}"
        raise DataError(
            "the data has changed since the run was trained: it cannot be read any more with the"
            " settings of the run",
            where=", ".join(f"{name}={value}" for name, value in recorded.items()),
            hint=f"Restore the file. {action}",
        ) from None


def _recorded_sources(data: DataConfig, cli_settings: Collection[str]) -> dict[str, str]:
    """The settings, with their values, that name recorded files or a data set of the Hub."""
    names = ["hub"] if data.source == "hub" else []
    if data.source == "hub" and is_named_on_command_line("hub", data, cli_settings):
        names = []
    names += [
        name
        for name in (*SPLITS, "unlabelled")
        if getattr(data, name, None) is not None
        and not is_named_on_command_line(name, data, cli_settings)
    ]
    return {f"data.{name}": _override_value(getattr(data, name)) for name in names}


def _override_value(value: Any) -> str:
    """A name or a list of names as the value of an override."""
    return f"[{','.join(value)}]" if isinstance(value, list) else str(value)


def _succeeds(read: Callable[[Collection[str]], None], splits: Collection[str]) -> bool:
    try:
        read(splits)
    except DataError:
        return False
    return True


def _is_setting(where: str | None) -> bool:
    """Whether an error is about a setting, such as the name of a missing file."""
    return where is not None and where.startswith("data.")


def _source_setting(split: str, rows: Rows, data: DataConfig) -> str:
    if len(rows.files) == 1:
        return f"data.{split}={shlex.quote(rows.files[0])}"
    if rows.files:
        return f"data.{split}={shlex.quote(_override_value(getattr(data, split)))}"
    return f"data.{data.source}={shlex.quote(str(getattr(data, data.source, None)))}"


def describe_sources(data: DataConfig) -> str:
    """The message to log before the recorded rows are read."""
    if data.source == "files":
        names = [name for name in (*SPLITS, "unlabelled") if getattr(data, name) is not None]
        settings = [f"data.{name}={format_names(getattr(data, name))}" for name in names]
    else:
        settings = [f"data.{data.source}={getattr(data, data.source, None)}"]
    return f"reading the rows of the run: {', '.join(settings)}"


def load_split(
    loaded: LoadedModel,
    split: str,
    log: Callable[[str], None] | None = None,
    cli_settings: Collection[str] = (),
) -> Rows:
    """The labelled rows of ``split`` for the model ``loaded``.

    Args:
        log: called with notes about the labels.
        cli_settings: names of the settings on the command line. Only these can select rows that
            the run did not record, or allow a download.

    Raises:
        UsageError: the split does not exist or has no labels.
        DataError: recorded rows have changed.
    """
    if loaded.unnamed_tags_message:
        raise UsageError(
            loaded.unnamed_tags_message,
            where="data.labels",
            hint="Name them in the order of the outputs: data.labels=[O,B-PER,I-PER,...]",
        )
    task = loaded.task_model.task
    needed_splits: tuple[str, ...] = (split,)
    if split == "train" and loaded.run is not None:
        needed_splits = ("train", "validation")  # validation may be cut from the training rows
    data, manifest = loaded.data, None
    if loaded.run is not None and "data" not in cli_settings:
        manifest = read_manifest(loaded.run)
        data = recorded_data(data, manifest, cli_settings)

    def read_recorded(names: Collection[str]) -> None:
        assert loaded.config is not None and manifest is not None
        recorded = recorded_data(loaded.config.data, manifest)
        needed = set(needed_splits).intersection(names)
        if "train" in needed and recorded.validation is None:
            needed.add("validation")  # cut from the training rows
        if needed:
            splits = load_splits(
                recorded,
                [name for name in SPLITS if name in needed],
                model_classes=task.class_names,
                cached_only=True,
            )
            check_recorded_rows(splits, manifest, recorded)

    hide_content = (
        nullcontext()
        if manifest is None
        else hide_recorded_content(data, cli_settings, read_recorded)
    )
    with hide_content:
        splits = load_splits(
            data,
            needed_splits,
            model_classes=task.class_names,
            cached_only=manifest is not None and "data.hub" not in cli_settings,
        )
    if manifest is not None:
        check_recorded_rows(splits, manifest, data, cli_settings)
    for note in [*splits.notes, format_mapping_note(splits.label_mapping)]:
        if log is not None and note:
            log(note)
    rows = dict(splits.items()).get(split)
    if rows is None or (task.needs_labels and not rows.has_labels):
        raise UsageError(
            f"there is no {split} split" if rows is None else f"the {split} split has no labels",
            where="split",
            hint=f"Set data.{split}=<file> with labels, or choose another split",
        )
    return rows
