"""Arrow files, Feather, and folders of ``save_to_disk``, with the class names in their metadata."""

from __future__ import annotations

import contextlib
import json
import random

import datasets
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from bertft.config.data import DataConfig
from bertft.data.prediction_rows import check_rows, open_input_file
from bertft.data.splits import load_splits, load_unlabelled
from bertft.errors import DataError

TABLE = pa.table({"id": [7, 8, 9], "label": [1, 0, 1], "text": ["so good", "a bore", "a joy"]})


def read(path, **settings):
    data = DataConfig(name="files", train=str(path), validation=str(path), **settings)
    return load_splits(data).train


def write_ipc(table, path, stream=False, codec=None, rows=2):
    new = pa.ipc.new_stream if stream else pa.ipc.new_file
    with new(str(path), table.schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as writer:
        writer.write_table(table, max_chunksize=rows)


WRITERS = {
    "a.arrow": write_ipc,
    "b.arrow": lambda table, path: write_ipc(table, path, stream=True),
    "c.arrow": lambda table, path: write_ipc(table, path, codec="zstd"),
    "d.feather": lambda table, path: pyarrow.feather.write_feather(table, path),
    "e.feather": lambda table, path: pyarrow.feather.write_feather(table, path, "uncompressed"),
}


@pytest.mark.usefixtures("read_both_ways")
@pytest.mark.parametrize("name", WRITERS)
def test_rows_of_every_kind_of_arrow_file(tmp_path, name):
    WRITERS[name](TABLE, tmp_path / name)
    rows = read(tmp_path / name)
    assert rows.column("text") == ["so good", "a bore", "a joy"]
    assert rows.column("label") == ["1", "0", "1"]
    assert rows.accounting()["read"] == 3 and rows.location(2).endswith(f"{name}:3")
    assert read(tmp_path / name, text=2, label=1).column("text") == rows.column("text")
    (tmp_path / name).rename(tmp_path / "a.data")
    assert len(read(tmp_path / "a.data", format="arrow")) == 3


def test_kept_columns_have_the_types_of_the_file(tmp_path):
    table = TABLE.append_column("date", pa.array([1, 2, 3], pa.date32()))
    write_ipc(table, tmp_path / "a.arrow")
    source = open_input_file(str(tmp_path / "a.arrow"), DataConfig(name="x"), ["id", "date"])
    types = check_rows(source, DataConfig(name="x")).kept_types
    assert types == {"id": pa.int64(), "date": pa.date32()}


def test_columns_that_do_not_exist_or_exist_twice(tmp_path):
    path = tmp_path / "a.arrow"
    write_ipc(TABLE.rename_columns(["text", "label", "text"]), path)
    with pytest.raises(DataError, match=r"data.text to a position: 0 or 2"):
        read(path)
    assert read(path, text=2).column("text")[0] == "so good"
    write_ipc(TABLE, path)
    with pytest.raises(DataError, match="'review' not found"):
        read(path, text="review")


def test_damaged_arrow_files_are_refused(tmp_path):
    path = tmp_path / "a.arrow"
    texts = [f"text {number}" for number in range(300)]
    write_ipc(pa.table({"text": texts, "label": ["a", "b"] * 150}), path, rows=300)
    content = path.read_bytes()
    rng = random.Random(0)
    for damaged in (b"", b"text,label", content[:500], content[: len(content) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="not a valid Arrow file"):
            read(path)
    for _ in range(60):  # offsets outside of the texts could crash the process
        damaged = bytearray(content)
        for _ in range(8):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged)
        with contextlib.suppress(DataError):
            load_unlabelled(str(path), DataConfig(name="x", on_bad_row="skip", max_skipped=1.0))


@pytest.mark.parametrize("ending", [".parquet", ".arrow", ".feather", "saved"])
def test_class_names_in_the_metadata(tmp_path, ending):
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])}
    )
    columns = {"text": ["so good", "a bore", "a joy"], "label": [1, 0, -1]}
    dataset = datasets.Dataset.from_dict(columns, features=features)
    path = tmp_path / f"a{ending}"
    if ending == "saved":
        dataset.save_to_disk(path, num_shards=2)
    elif ending == ".parquet":
        dataset.to_parquet(path)
    else:
        WRITERS["a.arrow" if ending == ".arrow" else "d.feather"](dataset.data.table, path)
    rows = read(path, on_bad_row="skip", max_skipped=1.0)
    assert rows.column("label") == ["pos", "neg"] and rows.accounting()["read"] == 3
    source = load_splits(DataConfig(name="x", train=str(path), on_bad_row="skip", max_skipped=1.0,
                                    validation=str(path)))  # fmt: skip
    assert source.class_names == ["neg", "pos"]


def test_tags_with_names_in_the_metadata(tmp_path):
    tags = datasets.List(datasets.ClassLabel(names=["O", "B-PER", "I-PER"]))
    features = datasets.Features({"tokens": datasets.List(datasets.Value("string")), "tags": tags})
    columns = {"tokens": [["Ada", "Byron", "wrote"], ["it"]], "tags": [[1, 2, 0], [0]]}
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(tmp_path / "ner")
    settings = {"task": "token_classification", "text": "tokens", "label": "tags"}
    rows = read(tmp_path / "ner", **settings)
    assert rows.column("label") == [["B-PER", "I-PER", "O"], ["O"]]


def test_folders_of_save_to_disk(tmp_path):
    dataset = datasets.Dataset.from_dict(TABLE.to_pydict()).select([2, 0, 1])
    dataset.save_to_disk(tmp_path / "one", num_shards=3)
    rows = read(tmp_path / "one")
    assert rows.column("text") == ["a joy", "so good", "a bore"] and len(rows.files) == 3
    folder = tmp_path / "all"
    datasets.DatasetDict({"train": dataset, "test": dataset}).save_to_disk(folder)
    with pytest.raises(DataError, match=rf"splits test, train.*data.train={folder}/test"):
        read(folder)
    assert len(read(folder / "train")) == 3
    state = json.loads((tmp_path / "one" / "state.json").read_text())
    for files, problem in (
        ([{"filename": "../a.arrow"}], "no valid list"), ([], "no valid list"),
        ([{"filename": "a.arrow"}], "lacks a.arrow"),
    ):  # fmt: skip
        content = json.dumps({**state, "_data_files": files})
        (tmp_path / "one" / "state.json").write_text(content)
        with pytest.raises(DataError, match=problem):
            read(tmp_path / "one")
