"""Names that a Parquet file declares for its class numbers are the classes."""

from __future__ import annotations

from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet
import pytest

from bertft.config.data import DataConfig
from bertft.config.registry import READERS
from bertft.data.data_sources import (
    class_names_in_schema,
    declared_class_names,
    select_class_names,
)
from bertft.data.formats import FileFormat
from bertft.data.splits import load_splits
from bertft.errors import UsageError

TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


@pytest.fixture
def write(tmp_path):
    def build(rows, **features):
        path = tmp_path / "rows.parquet"
        made = datasets.Dataset.from_dict(rows, datasets.Features(features))
        made.to_parquet(str(path))
        return str(path)

    return build


def parquet_class_names(path, column) -> list[str] | None:
    spec = READERS["parquet"]
    file_format = FileFormat("parquet", spec, READERS.implementation("parquet", "read"))
    return class_names_in_schema(file_format.schema(Path(path)), column)


def read(path, **settings):
    return load_splits(DataConfig(name="test", train=path, validation=path, **settings))


def test_tags_of_words(write):
    path = write(
        {"tokens": [["Ann", "Lee", "sang"], ["Oslo"]], "ner_tags": [[1, 2, 0], [3]]},
        tokens=datasets.List(datasets.Value("string")),
        ner_tags=datasets.List(datasets.ClassLabel(names=TAGS)),
    )
    assert parquet_class_names(path, "ner_tags") == parquet_class_names(path, 1) == TAGS
    splits = read(path, task="token_classification", text="tokens", label="ner_tags")
    assert splits.class_names == TAGS
    assert splits.train.column("label") == [["B-PER", "I-PER", "O"], ["B-LOC"]]


def test_tags_of_iob1_without_b(write):
    path = write(
        {"text": [["Ann", "Lee", "sang"]], "label": [[1, 1, 0]]},
        text=datasets.List(datasets.Value("string")),
        label=datasets.List(datasets.ClassLabel(names=["O", "I-PER"])),
    )
    splits = read(path, task="token_classification")
    assert splits.class_names == ["O", "I-PER", "B-PER"]
    assert splits.train.column("label") == [["B-PER", "I-PER", "O"]]


def test_classes_of_texts_and_numbers_outside_of_them(write):
    names = datasets.ClassLabel(names=["World", "Sports", "Business"])
    path = write(
        {"text": ["a", "b", "c"], "label": [2, 0, -1]}, text=datasets.Value("string"), label=names
    )
    splits = read(path, on_bad_row="skip", max_skipped=1.0)
    assert splits.class_names == ["World", "Sports", "Business"]
    assert splits.train.column("label") == ["Business", "World"]
    assert splits.train.bad.counts == {"missing label": 1}
    assert read(path, on_bad_row="skip", max_skipped=1.0, labels=["w", "s", "b"]).train.column(
        "label"
    ) == ["b", "w"]


def test_several_labels(write):
    names = datasets.List(datasets.ClassLabel(names=["a", "b", "c"]))
    path = write(
        {"text": ["x", "y"], "label": [[0, 2], []]}, text=datasets.Value("string"), label=names
    )
    splits = read(path, task="multi_label")
    assert splits.class_names == ["a", "b", "c"]
    assert splits.train.column("label") == [["a", "c"], []]


def test_a_file_without_names_or_with_damaged_ones(tmp_path):
    plain = tmp_path / "plain.parquet"
    table = pa.table({"label": [0]})
    pa.parquet.write_table(table, plain)
    assert parquet_class_names(plain, "label") is None
    for text in (b"{", b"[]", b'{"info": {"features": {"label": {"names": [1]}}}}', b"\xff"):
        pa.parquet.write_table(table.replace_schema_metadata({b"huggingface": text}), plain)
        assert parquet_class_names(plain, "label") is None
    assert parquet_class_names(tmp_path / "absent.parquet", "label") is None


@pytest.mark.parametrize(
    "feature",
    [
        {"names": ["a", "b"], "_type": "ClassLabel"},
        {"feature": {"names": ["a", "b"], "_type": "ClassLabel"}, "_type": "Sequence"},
        [{"names": ["a", "b"], "_type": "ClassLabel"}],
        datasets.List(datasets.ClassLabel(names=["a", "b"])),
    ],
)
def test_every_notation_of_a_feature(feature):
    assert declared_class_names(feature) == ["a", "b"]


def test_which_names_the_numbers_have():
    assert select_class_names(None, ["x"]) is None
    assert select_class_names(["a", "b"], None) == ["a", "b"]
    assert select_class_names(["a", "b"], ["b", "a", "c"]) == ["a", "b"]
    assert select_class_names(["a", "b"], ["x", "y"]) is None
    assert select_class_names(["neg", "pos"], ["Neg", "Pos"]) is None
    with pytest.raises(UsageError, match=r"lists 'Pos' as class 0, but in the file "):
        select_class_names(["neg", "pos"], ["Pos", "Neg"])


def test_numbers_that_a_file_names_by_other_numbers(write):
    path = write(
        {"text": ["a", "b"], "label": [0, 2]},
        text=datasets.Value("string"), label=datasets.ClassLabel(names=["1", "2", "3"]),
    )  # fmt: skip
    assert read(path, task="regression").train.column("label") == [1.0, 3.0]
