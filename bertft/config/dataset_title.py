"""The name of the data of a run, for titles of reports and model cards."""

from __future__ import annotations

import glob

from bertft.config.data import DataConfig
from bertft.config.data_files import is_several_files, split_names, strip_compression

__all__ = ["dataset_title"]

# Presets that do not name a data set; file names that say nothing about their content.
_GENERIC_PRESETS = ("files", "text")
_GENERIC_STEMS = ("train", "training", "data", "dataset", "rows")


def dataset_title(config: DataConfig) -> str:
    """A short name of the data set.

    It is the name of the preset, else the Hub id, else the name of the training file without its
    extension, of the first one if there are several. A file such as ``sst2/train.tsv`` has the name
    of its folder, and so have the files of a pattern. Rows that
    ``bertft.train`` stored in a run folder are "rows in memory".
    """
    if config.name not in _GENERIC_PRESETS:
        return config.name
    if config.hub is not None:
        return config.hub
    if config.train is None:
        return config.name
    path = strip_compression(split_names(config.train)[0])
    if is_several_files(config.train):
        while glob.has_magic(path.name):  # of a pattern such as reviews/**/*.csv, the folder
            path = path.parent
    if path.stem and path.stem.casefold() not in _GENERIC_STEMS:
        return path.stem
    folder = path.parent.name
    if folder == "rows" and path.suffix == ".parquet":
        return "rows in memory"
    is_title = folder and folder.casefold() not in _GENERIC_STEMS
    return folder if is_title else path.name or config.name
