from __future__ import annotations

import pytest

from bertft.config.data import DataConfig
from bertft.config.dataset_title import dataset_title


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"name": "sst2", "hub": "nyu-mll/glue"}, "sst2"),
        ({"name": "files", "train": "tickets.csv"}, "tickets"),
        ({"name": "files", "train": "/data/sst2/train.tsv"}, "sst2"),
        ({"name": "files", "train": "train.csv"}, "train.csv"),
        ({"name": "files", "train": "data/train.csv"}, "train.csv"),
        ({"name": "files", "train": "reviews.csv.gz"}, "reviews"),
        ({"name": "files", "train": ["a.csv", "b.csv"]}, "a"),
        ({"name": "files", "train": "imdb/train/**/*.txt"}, "imdb"),
        ({"name": "files", "train": "*.csv"}, "files"),
        ({"name": "files", "hub": "org/set"}, "org/set"),
        ({"name": "files", "train": "out/rows/train.parquet"}, "rows in memory"),
        ({"name": "files"}, "files"),
    ],
)
def test_the_title_of_data(settings, expected):
    assert dataset_title(DataConfig(**settings)) == expected
