"""Public data sets read as files; the environment variable BERTFT_DATA is their folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bertft.config.data import DataConfig
from bertft.data.readers.csv_reader import read_table_start
from bertft.data.splits import load_splits
from bertft.data.statistics import count_overlap

FOLDER = os.environ.get("BERTFT_DATA")
pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not FOLDER, reason="BERTFT_DATA is not set"),
]


def files(name: str, ending: str, **settings) -> DataConfig:
    folder = Path(FOLDER or "") / name
    train, dev = (str(folder / f"{split}.{ending}") for split in ("train", "dev"))
    return DataConfig(name=name, train=train, validation=dev, **settings)


def test_sst2(monkeypatch, tmp_path):
    parsed_files = []

    def observed(*arguments, **settings):
        parsed_files.append(arguments)
        return read_table_start(*arguments, **settings)

    monkeypatch.setattr("bertft.data.readers.csv_blocks.read_table_start", observed)
    for parses in (2, 3):  # the large file is parsed once for all runs, the small one per run
        splits = load_splits(files("sst2", "tsv", text="sentence", cache=str(tmp_path)))
        assert len(parsed_files) == parses
    assert (len(splits.train), len(splits.validation)) == (67_349, 872)
    assert splits.class_names == ["0", "1"]
    assert splits.train.column("text")[0] == "hide new secretions from the parental units "
    assert splits.train.bad.counts == {}


def test_sst2_sample_has_the_requested_size():
    splits = load_splits(files("sst2", "tsv", text="sentence", max_train_rows=8000))
    assert len(splits.train) == 8000


def test_stsb_without_a_header():
    splits = load_splits(
        files("stsb", "csv", text=[0, 1], label=2, header=False, task="regression")
    )
    assert (len(splits.train), len(splits.validation)) == (5_749, 1_500)
    first = {name: splits.train.column(name)[0] for name in ("text", "text_pair", "label")}
    assert first == {
        "text": "A plane is taking off.",
        "text_pair": "An air plane is taking off.",
        "label": 5.0,
    }
    assert 0 <= min(splits.train.column("label")) <= max(splits.train.column("label")) <= 5


def test_wnut17():
    folder = Path(FOLDER or "") / "wnut17"
    files = {
        "train": "wnut17train.conll", "validation": "emerging.dev.conll",
        "test": "emerging.test.annotated",
    }  # fmt: skip
    paths = {name: str(folder / file) for name, file in files.items()}
    config = DataConfig(name="wnut17", task="token_classification", **paths)
    splits = load_splits(config)
    sizes = [(len(rows), sum(map(len, rows.column("label")))) for _, rows in splits.items()]
    assert sizes == [(3_394, 62_730), (1_009, 15_733), (1_287, 23_394)]
    kinds = ("corporation", "creative-work", "group", "location", "person", "product")
    assert splits.class_names == ["O", *(f"{p}-{kind}" for kind in kinds for p in "BI")]
    assert splits.notes == ["the tags are bio (detected)"]
    assert splits.train.bad.counts == {}


def test_chnsenticorp():
    splits = load_splits(files("chnsenticorp", "tsv", text="text_a"))
    assert (len(splits.train), len(splits.validation)) == (9_600, 1_200)
    assert splits.train.column("text")[0].startswith("选择珠江花园的原因就是")
    assert count_overlap(splits.train, splits.validation) == 338
    shared = set(splits.train.column("text")) & set(splits.validation.column("text"))
    assert len(shared) == 335, "three of them stand in validation twice"
