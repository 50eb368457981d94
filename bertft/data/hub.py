"""Splits of a data set from the Hub, a mirror of it, or a local folder."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from bertft.config.choices import SPLITS
from bertft.config.data import DataConfig
from bertft.data.data_sources import (
    DataSource,
    declared_class_names,
    numbers_to_names,
    select_class_names,
)
from bertft.data.readers.parquet import read_batches
from bertft.data.rows import BadRows
from bertft.data.schema import ColumnSpec, Record, find_columns
from bertft.errors import DataError, SystemResourceError, UsageError
from bertft.utils.messages import first_line, format_list, suggest

if TYPE_CHECKING:
    import datasets

__all__ = ["open_hub_split"]

_BATCH_ROWS = 10_000
_HUB_ID = re.compile(r"(?:[A-Za-z0-9][\w.-]{0,95}/)?[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_DATA_EXTENSIONS = (".parquet", ".csv", ".tsv", ".jsonl", ".arrow", ".txt")
_HINT = "Check the id, the network and HF_ENDPOINT, or use local files with data=files"


def open_hub_split(
    config: DataConfig, split: str, columns: ColumnSpec, cached_only: bool = False
) -> DataSource:
    """Split ``split`` of ``data.hub``.

    ``cached_only``: the name was recorded in a run folder, not set by the user. The data set must
    be in the local cache; no request is sent.

    Raises SystemResourceError if it cannot be loaded (HF_ENDPOINT and HF_HUB_OFFLINE apply),
    DataError for a missing split or column, UsageError if it is not cached.
    """
    if not config.hub:
        raise UsageError(
            "is missing: it is required by data.source=hub",
            where="data.hub",
            hint="Set data.hub=<Hub id>",
        )
    source = f"{config.hub}/{config.subset}/{split}" if config.subset else f"{config.hub}/{split}"
    names_of_split = [name for name in SPLITS if getattr(config, name) == split or name == split]
    setting = f"data.{names_of_split[0]}" if names_of_split else "data.train"
    if cached_only:
        dataset = _load_cached_dataset(config.hub, config.subset, split, setting)
    else:
        dataset = _load_dataset(config.hub, config.subset, split, source, setting)
    names: list[str] = dataset.column_names
    positions = find_columns(columns, names, len(names), source)
    selected_names = [None if position is None else names[position] for position in positions]
    present_names = [name for name in selected_names if name is not None]
    label_index, declared = len(columns.text), None
    if len(columns.label) == 1:  # several 0/1 columns have the names of the columns
        declared = declared_class_names(dataset.features[selected_names[label_index]])
    class_names = select_class_names(declared, config.labels)

    def read(bad: BadRows) -> Iterator[Record]:
        bad.count_row(len(dataset))
        batches = dataset.select_columns(present_names).with_format("arrow").iter(_BATCH_ROWS)
        record_batches = (batch for table in batches for batch in table.to_batches())
        records = read_batches(record_batches, selected_names)
        if declared is not None:
            records = numbers_to_names(records, label_index, class_names)
        yield from records

    return DataSource(source, read, class_names)


def _load_cached_dataset(
    hub: str, subset: str | None, split: str, setting: str
) -> datasets.Dataset:
    """Load the split from the local cache of ``datasets`` alone."""
    import datasets
    from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES as readers

    # datasets resolves the names of its readers and of folders before those of data sets.
    if os.path.isdir(hub) and _contains_only_data_files(Path(hub)):
        hub = os.path.abspath(hub)
    elif not _HUB_ID.fullmatch(hub) or hub in readers or os.path.exists(hub):
        raise _not_cached_error(hub)
    previous_offline = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = True
    try:
        return _load_dataset(hub, subset, split, hub, setting)
    except SystemResourceError as error:
        raise _not_cached_error(hub) from error
    finally:
        datasets.config.HF_HUB_OFFLINE = previous_offline


def _contains_only_data_files(folder: Path) -> bool:
    """Whether ``folder`` has only data files: a README.md can refer to files elsewhere."""
    files = [path for path in folder.rglob("*") if not path.is_dir()]
    return all(path.suffix in _DATA_EXTENSIONS and path.is_file() for path in files)


def _not_cached_error(hub: str) -> UsageError:
    return UsageError(
        f"the data set {hub!r}, which the run recorded, is not in the local cache, and recorded"
        " data sets are not downloaded automatically",
        where="data.hub",
        hint=f"Download it with bertft eval RUN data.hub={shlex.quote(hub)}, then repeat this"
        " command",
    )


def _load_dataset(
    hub: str, subset: str | None, split: str, source: str, setting: str
) -> datasets.Dataset:
    """``setting``: the setting with the name of the split, for messages."""
    import datasets

    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(hub, subset, split=split)
    except ValueError as error:
        _raise_for_wrong_name(error, hub, subset, split, setting)
        raise _load_error(error, source) from error
    except datasets.exceptions.DatasetNotFoundError as error:
        raise SystemResourceError(
            "data set not found, or not accessible",
            where=f"data.hub={hub}",
            hint=f"{_HINT}. A private or gated data set needs hf auth login",
        ) from error
    except Exception as error:
        raise _load_error(error, source) from error


def _load_error(error: Exception, source: str) -> SystemResourceError:
    return SystemResourceError(
        f"the data set cannot be loaded ({first_line(error)})", where=source, hint=_HINT
    )


def _raise_for_wrong_name(
    error: ValueError, hub: str, subset: str | None, split: str, setting: str
) -> None:
    """Raise DataError if the Hub was reached and only the subset or the split is wrong."""
    import datasets

    try:
        subsets = datasets.get_dataset_config_names(hub)
        if subset is None and len(subsets) > 1 and "default" not in subsets:
            raise DataError(
                f"{hub} has several subsets: {format_list(subsets)}",
                where="data.subset",
                hint="Set data.subset=<name>",
            ) from error
        if subset is not None and subset not in subsets:
            raise DataError(
                f"{hub} has no subset {subset!r}",
                where="data.subset",
                hint=suggest(subset, subsets),
            ) from error
        splits = datasets.get_dataset_split_names(hub, subset)
    except DataError:
        raise
    except Exception:  # the cause is not a wrong name
        return
    if split not in splits:
        raise DataError(
            f"{hub} has no split {split!r} (splits: {format_list(splits)})",
            where=setting,
            hint=suggest(split, splits),
        ) from error
