"""Rows to predict: in order, in blocks, with the columns that are kept."""

from __future__ import annotations

import datetime
import io
import json
import os
import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bertft.config.data import DataConfig
from bertft.data.prediction_rows import (
    InputErrors,
    check_rows,
    iter_row_blocks,
    open_input_file,
)
from bertft.data.rows_in_memory import open_rows
from bertft.data.standard_input import has_column, open_standard_input
from bertft.errors import DataError, UsageError

CONFIG = DataConfig(name="x")
ROWS = [{"id": n, "text": f"text {n}", "date": f"2026-01-{n + 1:02d}"} for n in range(9)]


def blocks(rows, max_rows=100, max_characters=10_000, skip_rows=0):
    return list(iter_row_blocks(rows, InputErrors(rows.name), max_rows, max_characters, skip_rows))


def texts(row_blocks):
    return [[row.values[0] if row.values else row.error.detail for row in b] for b in row_blocks]


@pytest.fixture
def files(tmp_path):
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    lines = ["id,text,date", *(",".join(map(str, row.values())) for row in ROWS)]
    (tmp_path / "a.csv").write_text("\n".join(lines) + "\n")
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    return tmp_path


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
def test_kept_columns_follow_the_fields_of_every_format(files, name):
    for keep, expected_names in (
        (None, ()),
        ("date", ("date",)),
        (["date", "id", "date"], ("date", "id")),
        ("all", ("id", "text", "date")),
    ):
        rows = open_input_file(str(files / name), CONFIG, keep)
        assert rows.kept_names == expected_names
        [block] = blocks(rows)
        assert [row.values for row in block] == [[row["text"]] for row in ROWS]
        for row, expected in zip(block, ROWS, strict=True):
            assert [str(value) for value in row.kept_values] == [
                str(expected[key]) for key in expected_names
            ]


def test_a_column_that_is_not_there_is_an_error_with_the_closest(files):
    with pytest.raises(DataError, match=r"keep: column 'dat' not found .*Did you mean 'date'") as e:
        open_input_file(str(files / "a.csv"), CONFIG, ["dat"])
    assert e.value.where.endswith("a.csv")
    (files / "a.txt").write_text("one\ntwo\n")
    (files / "b.csv").write_text("one\ntwo\n")
    for name, config in (("a.txt", CONFIG), ("b.csv", DataConfig(name="x", text=0))):
        with pytest.raises(DataError, match="the columns have no names"):
            open_input_file(str(files / name), config, "all")


def test_types_of_kept_columns(tmp_path):
    pq.write_table(
        pa.table({"text": ["a"], "day": [datetime.date(2026, 1, 2)], "list": [[1]], "n": [None]}),
        tmp_path / "a.parquet",
    )
    rows = open_input_file(str(tmp_path / "a.parquet"), CONFIG, "all")
    types = check_rows(rows, CONFIG).kept_types
    assert types["day"] == pa.date32() and types["list"] == pa.string()
    values = [
        {"i": 1, "f": 1, "b": True, "s": "x", "m": 1, "big": 1 << 60, "huge": 1 << 70, "mix": 1},
        {"i": 2, "f": 0.5, "b": None, "s": "", "m": "x", "big": 1, "huge": 1, "mix": 1.5},
        {"mix": (1 << 53) + 1},
    ]
    lines = [json.dumps({"text": "a", **row}) + "\n" for row in values]
    (tmp_path / "a.jsonl").write_text("".join(lines))
    summary = check_rows(open_input_file(str(tmp_path / "a.jsonl"), CONFIG, "all"), CONFIG)
    assert summary.rows == 3
    assert {name: str(kind) for name, kind in summary.kept_types.items()} == {
        "text": "string", "i": "int64", "f": "double", "b": "bool", "s": "string", "m": "string",
        "big": "int64", "huge": "string", "mix": "string",
    }  # fmt: skip


def test_a_kept_value_that_cannot_be_written_makes_its_row_invalid():
    rows = open_rows([{"text": "a", "id": "x\0"}, {"text": "b", "id": ["\ud800"]}], CONFIG, "id")
    [block] = blocks(rows)
    assert [row.error.reason for row in block] == ["NUL byte", "unpaired surrogate"]


def test_blocks_are_a_function_of_the_rows():
    rows = open_rows(["a" * 10] * 7, CONFIG)
    assert [len(block) for block in blocks(rows, max_rows=3)] == [3, 3, 1]
    assert [len(block) for block in blocks(rows, max_characters=5)] == [2, 2, 2, 1]  # long rows
    assert [len(block) for block in blocks(rows, max_rows=3, skip_rows=5)] == [2]
    assert blocks(rows, skip_rows=7) == []


def test_rows_in_memory():
    names = [f"text {n}" for n in range(250)]
    expected = [names]
    assert texts(blocks(open_rows(names, CONFIG), 999)) == expected
    assert texts(blocks(open_rows(({"text": name} for name in names), CONFIG), 999)) == expected
    assert texts(blocks(open_rows(pa.table({"text": names}), CONFIG), 999)) == expected
    once = open_rows(iter(names), CONFIG)
    assert not once.is_repeatable and open_rows(names, CONFIG).is_repeatable
    pair = DataConfig(name="x", text=["a", "b"])
    [block] = blocks(open_rows([{"b": "2", "a": "1"}], pair))
    assert block[0].values == ["1", "2"]
    for rows, config, message in (
        (["x"], pair, "needs 2 texts"),
        ([3], CONFIG, "row 1 has the type int"),
        (np.array([3]), CONFIG, "row 1 has the type int"),
        ({"text": names}, CONFIG, "a dict of columns"),
        (5, CONFIG, "the type int"),
        (None, CONFIG, "the type NoneType"),
    ):
        with pytest.raises((UsageError, DataError), match=message):
            blocks(open_rows(rows, config))


def test_texts_in_an_array_or_a_series():
    class Series:  # what a pandas.Series has
        iloc = None

        def tolist(self):
            return ["a", "b"]

    for rows in (np.array(["a", "b"]), Series()):
        assert texts(blocks(open_rows(rows, CONFIG))) == [["a", "b"]]


def test_a_block_of_short_rows_has_a_multiple_of_64_rows():
    rows = open_rows(["ten letter"] * 300, CONFIG)
    assert [len(block) for block in blocks(rows, 1000, max_characters=1000)] == [128, 128, 44]
    assert [len(block) for block in blocks(rows, 100, max_characters=1000)] == [100, 100, 100]


def test_an_iterator_is_not_read_ahead_of_the_blocks():
    taken = []

    def rows():
        for number in range(1_000):
            taken.append(number)
            yield f"text {number}"

    iterator = iter_row_blocks(open_rows(rows(), CONFIG), InputErrors("x"), 150, 10_000)
    assert len(next(iterator)) == 150 and len(taken) == 150
    assert len(next(iterator)) == 150 and len(taken) == 300


def test_the_check_names_the_invalid_rows_and_that_there_are_none(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,id\ngood,1\n,2\nfine,3\n")
    with pytest.raises(DataError, match=r"a\.csv:3: empty text"):
        check_rows(open_input_file(str(path), CONFIG), CONFIG)
    skipping = DataConfig(name="x", on_bad_row="skip")
    assert check_rows(open_input_file(str(path), skipping), skipping).rows == 3
    path.write_text("text,id\n")
    with pytest.raises(DataError, match="there are no rows"):
        check_rows(open_input_file(str(path), CONFIG), CONFIG)
    path.write_text("text\nsome longer text\n")
    with pytest.raises(DataError, match="may be a header"):
        check_rows(open_input_file(str(path), DataConfig(name="x", text=0)), CONFIG)


@pytest.mark.parametrize(
    ("content", "keep", "note", "expected"),
    [
        ('\n{"text": "a", "id": 1}\n{"text": "b"}\n', "id", "", [("a", (1,)), ("b", (None,))]),
        ("id,text\n1,a\n2,b\n", "all", "commas", [("a", ("1", "a")), ("b", ("2", "b"))]),
        ("id\ttext\r\n1\ta\r\n", "id", "tabs", [("a", ("1",))]),
        ('"id, new",text\n1,a\n', ["id, new"], "commas", [("a", ("1",))]),
        ("sep=;\r\nid;text\r\n1;a, b\r\n", "id", "semicolons", [("a, b", ("1",))]),
        ('"sep=|"\nid|text\n1|a\n', "id", "vertical bars", [("a", ("1",))]),
        ("a text, and more\n{b}\n", None, "plain text", [("a text, and more", ()), ("{b}", ())]),
        ("text\n", None, "plain text", [("text", ())]),
        ('{"text": "好"}\n', None, "", [("好", ())]),
    ],
)
def test_standard_input_is_what_its_first_line_is(content, keep, note, expected):
    stream = io.BytesIO(content.encode())
    rows = open_standard_input(stream, CONFIG, keep)
    assert note in rows.note and bool(note) == bool(rows.note)
    assert not rows.is_live and not rows.is_repeatable
    [block] = blocks(rows)
    assert [(row.values[0], row.kept_values) for row in block] == expected
    assert stream.closed  # else Python warns about an unclosed file


def test_a_separator_line_of_excel_is_read_as_in_a_file(tmp_path):
    content = "\ufeffsep=;\r\n\r\nid;text\r\n1;a, b\r\n2;c\r\n"
    (tmp_path / "a.csv").write_text(content, encoding="utf-8", newline="")
    lines_and_texts = []
    for rows in (
        open_input_file(str(tmp_path / "a.csv"), CONFIG),
        open_standard_input(io.BytesIO(content.encode()), CONFIG),
    ):
        [block] = blocks(rows)
        lines_and_texts.append([(row.line, row.values) for row in block])
    assert lines_and_texts[0] == lines_and_texts[1] == [(4, ["a, b"]), (5, ["c"])]
    with pytest.raises(DataError, match="column 'text' not found"):
        blocks(open_standard_input(io.BytesIO(b"sep=;\nid;review\n1;a\n"), CONFIG))
    assert has_column(io.BytesIO(b"sep=^\nid^review\n1^a\n"), "review", CONFIG)


def test_standard_input_that_is_not_understood():
    pair = DataConfig(name="x", text=["a", "b"])
    with pytest.raises(DataError, match="neither JSON Lines nor a table with the columns a, b"):
        open_standard_input(io.BytesIO(b"one line\n"), pair)
    for content, message in (
        (b"", "empty"),
        (b'{\n "text": "a"\n', r"stdin:\d+: not JSON"),
        (b'\n[\n{"text": "a"}\n{"text": "b"}]\n', r"stdin:4: not JSON .*comma"),
    ):
        with pytest.raises(DataError, match=message):
            blocks(open_standard_input(io.BytesIO(content), CONFIG))
    with pytest.raises(DataError, match="no names"):
        open_standard_input(io.BytesIO(b"a line\n"), CONFIG, "all")
    [block] = blocks(open_standard_input(io.BytesIO(b"text\na\n"), CONFIG, is_table=True))
    assert [row.values for row in block] == [["a"]]


@pytest.mark.parametrize(
    ("content", "settings"),
    [
        (b'[{"id": 7, "text": "a"}, {"text": "b"}]', {}),
        (b'\n{\n "id": 7,\n "text": "a"\n}\n{"text": "b"}\n', {}),
        (b'{"id": 7, "text": "a"} {"text": "b"}', {"format": "json"}),
        (b'{"id": 7, "text": "a"}\n{"text": "b"}', {"format": "jsonl"}),
        (b"id,text\n7,a\n,b\n", {"format": "csv"}),
        (b"id\ttext\n7\ta\n\tb\n", {"format": "tsv"}),
        (b"id;text\n7;a\n;b\n", {"format": "csv", "separator": ";"}),
    ],
)
def test_formats_of_standard_input(content, settings):
    config = DataConfig(name="x", **settings)
    source = open_standard_input(io.BytesIO(content), config, "all")
    [block] = blocks(source)
    assert source.kept_names == ("id", "text")
    assert [row.values for row in block] == [["a"], ["b"]]
    assert [str(row.kept_values[0] or "") for row in block] == ["7", ""]


def test_a_text_on_standard_input_may_look_like_another_format():
    config = DataConfig(name="x", format="text")
    [block] = blocks(open_standard_input(io.BytesIO(b'{"text": "a"}\nid,text\n'), config))
    assert [row.values for row in block] == [['{"text": "a"}'], ["id,text"]]
    with pytest.raises(DataError, match="conll is not supported on standard input"):
        open_standard_input(io.BytesIO(b"a O\n"), DataConfig(name="x", format="conll"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"separator": ""}, "'' is not a valid separator"),
        ({"separator": '"'}, "is not a valid separator"),
        ({"encoding": "utf8x"}, "unknown encoding 'utf8x'"),
    ],
)
def test_settings_that_cannot_read_standard_input(settings, message):
    config = DataConfig(name="x", **settings)
    for read in (open_standard_input, lambda stream, data: has_column(stream, "text", data)):
        with pytest.raises(DataError, match=message):
            read(io.BytesIO(b"id,text\n1,a\n"), config)


def test_a_separator_of_several_characters_is_read_as_in_a_file(tmp_path):
    content, config = b'id||text\n1||"a" b\n', DataConfig(name="x", separator="||")
    (tmp_path / "a.csv").write_bytes(content)
    for rows in (
        open_input_file(str(tmp_path / "a.csv"), config),
        open_standard_input(io.BytesIO(content), config, is_table=True),
    ):
        assert texts(blocks(rows)) == [['"a" b']]


def test_a_column_of_standard_input_is_found_without_reading_it():
    for content, name, expected in (
        (b'{"review": "a"}\n', "review", True),
        (b'{"review": "a"}\n', "text", False),
        (b"id,review\n1,a\n", "review", True),
        (b"review\n", "review", False),
        (b"", "", False),
    ):
        stream = io.BytesIO(content)
        assert has_column(stream, name, CONFIG) == expected and stream.tell() == 0
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as stream, os.fdopen(writer, "wb") as sink:
        assert not has_column(stream, "review", CONFIG), "nothing has arrived: no waiting"
        sink.write(b'{"review": "a"}\n')
        sink.flush()
        assert has_column(stream, "review", CONFIG)
        assert stream.readline() == b'{"review": "a"}\n'


def test_rows_of_a_pipe_come_as_they_arrive():
    """Each row is answered before the next one is sent; also an invalid one."""
    reader, writer = os.pipe()
    sent = [b'{"text": "a"}\n', b'{"text": ""}\n', b"{nonsense\n", b'{"text": "b"}\n']
    with os.fdopen(reader, "rb") as stream, os.fdopen(writer, "wb", buffering=0) as sink:
        sink.write(sent[0])
        rows = open_standard_input(stream, CONFIG)
        assert rows.is_live
        iterator = iter_row_blocks(rows, InputErrors("stdin"), 100, 10_000)
        actual = [texts([next(iterator)])[0]]
        for line in sent[1:]:
            sink.write(line)
            actual.append(texts([next(iterator)])[0])
        sink.close()
        assert list(iterator) == []
    assert actual[:2] == [["a"], ["empty text"]] and actual[3] == ["b"]
    assert len(actual[2]) == 1 and "not JSON" in actual[2][0]


def test_many_rows_of_a_pipe_come_in_order():
    reader, writer = os.pipe()

    def send():
        with os.fdopen(writer, "wb") as sink:
            sink.write(b"".join(b"text %d\n" % number for number in range(5_000)))

    threading.Thread(target=send).start()
    with os.fdopen(reader, "rb") as stream:
        received = blocks(open_standard_input(stream, CONFIG), 64, skip_rows=100)
    assert [name for block in texts(received) for name in block] == [
        f"text {number}" for number in range(100, 5_000)
    ]
    assert max(map(len, received)) <= 64


def test_long_rows_of_a_pipe_come_in_blocks_of_limited_size():
    reader, writer = os.pipe()

    def send():
        with os.fdopen(writer, "wb") as sink:
            sink.write(b"".join(b"%d %s\n" % (number, b"x" * 5_000) for number in range(400)))

    sender = threading.Thread(target=send)
    sender.start()
    with os.fdopen(reader, "rb") as stream:
        rows = open_standard_input(stream, CONFIG)
        iterator = iter_row_blocks(rows, InputErrors("stdin"), 10_000, 20_000)
        received = [next(iterator)]
        sender.join(0.5)
        assert sender.is_alive(), "rows that are not needed yet stay in the pipe"
        received += iterator
    assert sum(map(len, received)) == 400 and max(map(len, received)) <= 4
