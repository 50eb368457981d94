"""Output files: the same values in every format, complete rows only, and no lost file."""

from __future__ import annotations

import csv
import datetime
import json
import signal
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bertft.cli.prediction_output import check_output_path, open_output
from bertft.errors import UsageError

COLUMNS = ["line", "day", "id", "label", "scores.a", "scores.b,c", "spans", "error"]
TYPES = {"day": pa.date32()}
ROWS = [
    {"line": 1, "day": datetime.date(2026, 1, 2), "id": "x\n\"1\"", "label": "a",
     "scores": {"a": 0.1 + 0.2, "b,c": 1e-17}, "spans": [{"text": "好", "start": 0}]},
    {"line": 2, "day": None, "id": "7", "label": None, "scores": None, "spans": None,
     "error": "empty text"},
]  # fmt: skip


def write(path, rows=ROWS, blocks=1, finish=True):
    writer = open_output(str(path), COLUMNS, TYPES)
    for _ in range(blocks):
        writer.write(rows)
    if finish:
        writer.finish()
    return writer


def test_every_format_has_the_same_values(tmp_path):
    for name in ("a.jsonl", "a.csv", "a.parquet"):
        write(tmp_path / name, blocks=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "a.jsonl", "a.parquet"]
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text("utf-8").splitlines()]
    assert lines == 2 * [{**ROWS[0], "day": "2026-01-02"}, ROWS[1]]
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.column_names == COLUMNS
    assert [str(kind) for kind in table.schema.types] == [
        "int64", "date32[day]", "string", "string", "double", "double", "string", "string",
    ]  # fmt: skip
    first, second = table.to_pylist()[2:]
    assert (first["scores.a"], first["scores.b,c"]) == (0.1 + 0.2, 1e-17)
    assert json.loads(first["spans"]) == ROWS[0]["spans"]
    assert second == {name: ROWS[1].get(name) for name in COLUMNS}
    with open(tmp_path / "a.csv", encoding="utf-8", newline="") as file:
        fields = list(csv.DictReader(file))
    assert len(fields) == 4 and list(fields[0]) == COLUMNS
    for row, expected in zip(fields, table.to_pylist(), strict=True):
        for name in COLUMNS:
            number = name.startswith("scores.") and row[name]
            value = "" if expected[name] is None else expected[name]
            assert (float(row[name]) if number else row[name]) == (value if number else str(value))


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
def test_the_output_changes_only_when_it_is_complete(tmp_path, name):
    path = tmp_path / name
    path.write_text("old")
    writer = write(path, finish=False)
    assert path.read_text() == "old" and (tmp_path / f"{name}.partial").exists()
    with pytest.raises(UsageError, match="another process is writing"):
        write(path)
    writer.discard()
    assert [file.name for file in tmp_path.iterdir()] == [name] and path.read_text() == "old"
    (tmp_path / f"{name}.partial").write_text("left by a killed process")
    assert write(path).count == 2
    assert [file.name for file in tmp_path.iterdir()] == [name] and path.read_text("latin-1")[:3]


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
def test_an_interrupted_write_keeps_the_complete_blocks(tmp_path, monkeypatch, name):
    path = tmp_path / name
    writer = write(path, finish=False, blocks=3)
    if name != "a.parquet":
        # The block is in the file, but the interruption came before it was counted.
        writer._file.write(b'{"half": "a ro')
    assert writer.count == 6
    writer.finish()
    text = path.read_bytes()
    if name == "a.parquet":
        assert pq.read_table(path).num_rows == 6
    elif name == "a.jsonl":
        assert len([json.loads(line) for line in text.splitlines()]) == 6
    else:
        assert text == (write(tmp_path / "b.csv", blocks=3), (tmp_path / "b.csv").read_bytes())[1]


def test_a_parquet_file_has_large_groups_and_may_be_empty(tmp_path):
    rows = [{"line": n, "id": str(n)} for n in range(10_000)]
    write(tmp_path / "a.parquet", rows, blocks=4)
    file = pq.ParquetFile(tmp_path / "a.parquet")
    assert (file.num_row_groups, file.metadata.num_rows) == (2, 40_000)
    assert file.read().column("line").to_pylist() == 4 * list(range(10_000))
    open_output(str(tmp_path / "b.parquet"), COLUMNS, TYPES).finish()
    assert pq.read_table(tmp_path / "b.parquet").num_rows == 0


def test_numbers_that_json_does_not_have(tmp_path):
    writer = open_output(str(tmp_path / "a.jsonl"), ["x"], {})
    writer.write([{"x": float("nan"), "y": [float("inf"), 1.5]}])
    writer.finish()
    assert (tmp_path / "a.jsonl").read_text() == '{"x": null, "y": [null, 1.5]}\n'


@pytest.mark.parametrize(
    ("name", "fragments"),
    [
        ("a.parqet", ["unknown file extension .parqet", "Did you mean .parquet?", ".csv"]),
        ("a.xlsx", ["unknown file extension .xlsx", ".jsonl (JSON Lines), .csv or .parquet"]),
        ("answers", ["has no extension", ".jsonl"]),
        ("gone/a.csv", ["there is no folder"]),
        (".", ["is a folder"]),
    ],
)
def test_an_output_that_cannot_be_written(tmp_path, monkeypatch, name, fragments):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as error:
        check_output_path(name, "-")
    assert str(error.value).startswith(f"output={name}: ")
    assert all(fragment in str(error.value) for fragment in fragments), error.value


def test_a_killed_process_leaves_only_the_partial_file(tmp_path):
    code = (
        "import sys, time; from bertft.cli.prediction_output import open_output\n"
        "writer = open_output(sys.argv[1], ['x'], {})\n"
        "writer.write([{'x': n} for n in range(1000)]); print(); sys.stdout.flush(); time.sleep(60)"
    )
    path = tmp_path / "a.jsonl"
    process = subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE)
    process.stdout.read(1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert [file.name for file in tmp_path.iterdir()] == ["a.jsonl.partial"]
    lines = (tmp_path / "a.jsonl.partial").read_text().splitlines()
    assert [json.loads(line)["x"] for line in lines] == list(range(1000))
    write(path)
    assert [file.name for file in tmp_path.iterdir()] == ["a.jsonl"]
