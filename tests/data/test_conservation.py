"""No reader loses, adds or moves a row: each text contains its number, from file to prediction."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from bertft.config.data import DataConfig
from bertft.data import data_sources
from bertft.data.prediction_rows import InputErrors, iter_row_blocks, open_input_file
from bertft.data.splits import load_splits
from bertft.data.standard_input import open_standard_input
from bertft.errors import DataError

SMALL = data_sources.MIN_CACHED_BYTES
COUNTS = [0, 1, 99, 100, 101, 102, 1000]
LABELS = ("a", "b")


def text(row: int) -> str:
    return f"row {row}"


def label(row: int) -> str:
    return LABELS[row % 2]


def separated(rows: Sequence[int], mark: str) -> bytes:
    sink = io.StringIO(newline="")
    writer = csv.writer(sink, delimiter=mark, lineterminator="\n")
    writer.writerows([["text", "label"], *([text(row), label(row)] for row in rows)])
    return sink.getvalue().encode()


def json_lines(rows: Sequence[int]) -> bytes:
    lines = (json.dumps({"text": text(row), "label": label(row)}) for row in rows)
    return "".join(f"{line}\n" for line in lines).encode()


def parquet(rows: Sequence[int]) -> bytes:
    sink = io.BytesIO()
    columns = [pa.array(map(text, rows), pa.string()), pa.array(map(label, rows), pa.string())]
    table = pa.table(columns, ["text", "label"])
    pyarrow.parquet.write_table(table, sink, row_group_size=100)
    return sink.getvalue()


WRITERS = {
    ".csv": lambda rows: separated(rows, ","),
    ".tsv": lambda rows: separated(rows, "\t"),
    ".jsonl": json_lines,
    ".parquet": parquet,
}


def config(path: Path, **settings) -> DataConfig:
    return DataConfig(name="files", train=str(path), validation=str(path), **settings)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("ending", WRITERS)
def test_every_row_of_a_labelled_file_is_used_once(tmp_path, ending, count, read_both_ways):
    path = tmp_path / f"rows{ending}"
    path.write_bytes(WRITERS[ending](range(count)))
    settings = config(path, labels=list(LABELS))
    if count < 2:  # nothing can be learnt from none; a single row has a single class
        with pytest.raises(DataError) if count == 0 else nullcontext():
            assert load_splits(settings).train.column("text") == [text(0)]
        return
    splits = load_splits(settings)
    for rows in (splits.train, splits.validation):
        assert rows.column("text") == [text(row) for row in range(count)]
        assert rows.column("label") == [label(row) for row in range(count)]
        assert not rows.bad.counts


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("ending", [*WRITERS, ".txt", "stdin"])
def test_every_row_to_predict_is_read_once(tmp_path, ending, count):
    texts, config = [text(row) for row in range(count)], DataConfig(name="files")
    if ending == "stdin":
        rows = open_standard_input(io.BytesIO(json_lines(range(count))), config)
    else:
        path = tmp_path / f"rows{ending}"
        content = "".join(f"{text}\n" for text in texts).encode()
        path.write_bytes(content if ending == ".txt" else WRITERS[ending](range(count)))
        rows = open_input_file(str(path), config)
    blocks = iter_row_blocks(rows, InputErrors(rows.name), 1_000, 1 << 20)
    if count == 0 and ending in (".jsonl", "stdin"):
        with pytest.raises(DataError, match="the file is empty"):
            next(blocks)
    else:
        assert [row.values[0] for block in blocks for row in block] == texts


@pytest.mark.parametrize("size", [SMALL - 1, SMALL, SMALL + 1])
@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl"])
def test_rows_of_a_file_around_the_size_that_is_mapped(tmp_path, monkeypatch, ending, size):
    monkeypatch.setenv("BERTFT_CACHE", str(tmp_path / "cache"))
    path, pad = tmp_path / f"rows{ending}", "x" * 5_000
    rows = [f"{row} {pad}" for row in range(205)]
    if ending == ".jsonl":
        lines = [json.dumps({"text": text, "label": label(row)}) for row, text in enumerate(rows)]
    else:
        mark = "," if ending == ".csv" else "\t"
        lines = [f"text{mark}label"]
        lines += [f"{text}{mark}{label(row)}" for row, text in enumerate(rows)]
    content = "\n".join(lines) + "\n"
    path.write_text(content.replace(pad, pad + "x" * (size - len(content)), 1))
    assert path.stat().st_size == size
    for _ in range(2):
        read = load_splits(config(path)).train
        assert [text.split()[0] for text in read.column("text")] == list(map(str, range(205)))
    assert (tmp_path / "cache").exists() == (size >= SMALL)


@pytest.mark.parametrize("count", [15, 16, 17, 32, 33])
@pytest.mark.parametrize("ending", WRITERS)
def test_rows_around_a_batch_of_the_table(tmp_path, monkeypatch, ending, count, read_both_ways):
    monkeypatch.setattr(data_sources, "_CHUNK_ROWS", 16)
    path = tmp_path / f"rows{ending}"
    path.write_bytes(WRITERS[ending](range(count)))
    assert load_splits(config(path)).train.column("text") == [text(row) for row in range(count)]
