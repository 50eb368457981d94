"""CSV and TSV: every line is counted, quoting is configurable, suspicious content is reported."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertft.config.data import DataConfig
from bertft.data.data_sources import open_file, read_records, read_rows
from bertft.data.readers.csv_reader import read_csv
from bertft.data.rows import BadRows
from bertft.data.schema import ColumnSpec, build_row_schema
from bertft.data.splits import load_splits, load_unlabelled
from bertft.errors import DataError

QUOTED = 'text\tlabel\n"a tab"\tx\n"two ""quotes"""\ty\n""\tx\nz\ty\n'


def rows(path, content: str, **settings):
    """(text, label) of each row read, and the accounting of the reader."""
    path.write_bytes(content.encode())
    config = DataConfig(name="files", train=str(path), **settings)
    bad, schema = BadRows("it"), build_row_schema(config)
    count = len(schema.columns.text + schema.columns.label)
    return [fields[:count] for _, fields in read_records(path, schema, config, bad)], bad


@pytest.mark.parametrize("name", ["a.tsv", "a.txt", "a.csv", "a.data"])
@pytest.mark.parametrize("mark", ["\t", "\\t", "tab", "TAB"])
def test_every_name_of_the_tab_separator_is_accepted(tmp_path, name, mark):
    """A quote at the beginning of a field swallowed the lines up to the next one."""
    lines = [f'"open {row}\tx\nclosed" {row}\ty' for row in range(4)]
    actual, bad = rows(tmp_path / name, "\n".join(["text\tlabel", *lines]), separator=mark)
    assert [text for text, _ in actual] == [
        text for row in range(4) for text in (f'"open {row}', f'closed" {row}')
    ]
    assert (len(bad), bad.read) == (0, 8)


@pytest.mark.parametrize("name", ["a.tsv", "a.csv", "a.txt"])
def test_quoting_of_tsv_files_is_configurable(tmp_path, name):
    plain, bad = rows(tmp_path / name, QUOTED, separator="tab")
    assert [text for text, _ in plain] == ['"a tab"', '"two ""quotes"""', '""', "z"]
    (note,) = bad.notes
    assert note.startswith("3 fields are enclosed in double quotes") and "data.quoting" in note
    requested, bad = rows(tmp_path / name, QUOTED, separator="tab", quoting=True)
    assert [text for text, _ in requested] == ["a tab", 'two "quotes"', "", "z"]
    assert not bad.notes
    refused, bad = rows(tmp_path / name, QUOTED, separator="tab", quoting=False)
    assert refused == plain and not bad.notes


def test_a_quoted_header_of_tsv_names_the_setting(tmp_path):
    with pytest.raises(DataError, match=r"data\.quoting=true"):
        rows(tmp_path / "a.tsv", '"text"\t"label"\n"a"\t"b"\n')


def test_unclosed_quotes_are_reported(tmp_path):
    content = 'label\ttext\nx\t"one\ntwo"\ny\t"three\nfour"\nx\tfive\n'
    actual, bad = rows(tmp_path / "a.tsv", content, text="text")
    assert len(actual) == 3 and bad.counts == {"wrong number of columns": 2}
    (note,) = bad.notes
    assert note.startswith("2 fields open a double quote") and "data.quoting=true" in note
    assert "data.quoting=true" in bad.hints["wrong number of columns"]
    whole, bad = rows(tmp_path / "a.tsv", content, text="text", quoting=True)
    assert [text for text, _ in whole] == ["one\ntwo", "three\nfour", "five"] and not len(bad)


def test_quotes_within_prose_are_not_reported(tmp_path):
    content = 'text\tlabel\n"It is," he said.\tx\n"Why?" she asked. "And how?\ty\nso "said"\ty\n'
    _, bad = rows(tmp_path / "a.tsv", content)
    assert not bad.notes


def test_line_breaks_in_quotes_are_reported(tmp_path):
    content = 'text,label\n"one\ntwo",x\n"three\r\n\r\nfour, five",y\nsix,x\n'
    actual, bad = rows(tmp_path / "a.csv", content)
    assert [text for text, _ in actual] == ["one\ntwo", "three\r\n\r\nfour, five", "six"]
    assert bad.notes == ["2 fields contain line breaks (the longest row has 3 lines)"]
    assert (bad.read, bad.other_lines["continued"]) == (3, 3)


def test_rows_inside_quotes_are_reported(tmp_path):
    lines = ["text,label", '"stray,x', *(f"row {row},y" for row in range(5)), 'end",x']
    _, bad = rows(tmp_path / "a.csv", "\n".join(lines))
    (note,) = bad.notes
    assert "5 lines inside look like rows: set data.quoting=false" in note


def test_an_invalid_csv_row_does_not_affect_others(tmp_path):
    lines = ["text,label", "a,x", '"stray,x', "b,y", "c,x", '"d" stray,y', "e,x"]
    actual, bad = rows(tmp_path / "a.csv", "\n".join(lines))
    assert [text for text, _ in actual] == ["a", "b", "c", "e"]
    assert bad.first_errors == [
        (3, "text after a closing quote"),
        (6, "text after a closing quote"),
    ]
    assert bad.read == 6 and "data.quoting=false" in bad.hints["text after a closing quote"]
    with pytest.raises(DataError, match=r"data\.on_bad_row=skip.*data\.quoting=false"):
        load_splits(DataConfig(name="files", train=str(tmp_path / "a.csv")))


@pytest.mark.parametrize(
    ("content", "settings"),
    [
        ("sep=;\ntext;label\na;x\nb, c;y\n", {}),
        ('\n"sep=;"\r\ntext;label\r\na;x\r\nb, c;y\r\n', {}),
        ("\ufeffSEP=;\ntext;label\na;x\nb, c;y\n", {}),
        ("sep=;\ntext;label\na;x\nb, c;y\n", {"separator": ";"}),
        ("sep=\t\ntext\tlabel\na\tx\nb, c\ty\n", {}),
        ("sep=;\na;x\nb, c;y\n", {"text": 0, "label": 1}),
    ],
)
def test_a_separator_line_for_excel_is_read(tmp_path, content, settings):
    actual, bad = rows(tmp_path / "a.csv", content, **settings)
    assert actual == [["a", "x"], ["b, c", "y"]]
    assert bad.read == 2 and bad.other_lines["sep= line"] == 1


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("a.csv", ["text,label", "a,x", '"b, c",y', "d,x"]),
        ("a.tsv", ["text\tlabel", "a\tx", "b, c\ty", "d\tx"]),
        (
            "a.jsonl",
            [
                '{"text": "a", "label": "x"}',
                '{"text": "b, c", "label": "y"}',
                '{"text": "d", "label": "x"}',
            ],
        ),
    ],
)
@pytest.mark.parametrize("last", [True, False])
def test_every_line_end_is_supported(tmp_path, name, lines, end, last):
    actual, bad = rows(tmp_path / name, end.join(lines) + end * last)
    assert actual == [["a", "x"], ["b, c", "y"], ["d", "x"]] and not len(bad)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "gb18030"])
def test_files_with_carriage_returns_alone_are_read(tmp_path, encoding):
    path = tmp_path / "a.txt"
    path.write_bytes("one\rtwo\rthree\r".encode(encoding))
    read = load_unlabelled(str(path), DataConfig(name="files", encoding=encoding))
    assert read.column("text") == ["one", "two", "three"]


def test_a_carriage_return_inside_a_line_is_text(tmp_path):
    actual, _ = rows(tmp_path / "a.tsv", "text\tlabel\na\rb\tx\nc\ty\n")
    assert actual == [["a\rb", "x"], ["c", "y"]]


LINE = st.lists(
    st.sampled_from(['"', '""', ",", "a", "b c", '"x"', '"x,y"', '"', " "]), max_size=6
).map("".join)


@settings(max_examples=100, deadline=None)
@given(lines=st.lists(LINE, max_size=12), quoting=st.booleans(), header=st.booleans())
def test_every_line_is_counted_once(lines, quoting, header):
    """lines = rows used + rows skipped + blank lines + header + lines inside quoted fields."""
    separator = "," if quoting else "\t"  # data.quoting is null: tabs are read without quoting
    content = "\n".join(["a,b", *lines]).replace(",", separator)
    file, bad = io.StringIO(content, newline=""), BadRows("it")
    config = DataConfig(name="it", header=header)
    records = read_csv(file, ColumnSpec((0,), (1,)), config, separator, bad)
    try:
        used = list(records)
    except DataError as error:
        assert "never closed" in str(error)  # noqa: PT017
        return
    assert bad.read == len(used) + len(bad)
    there = len(file.getvalue().split("\n")) - (not lines or lines[-1] == "")
    assert bad.read + bad.blank_lines + bad.other_lines.total() == there + (not lines)
    numbers = [line for line, _ in used]
    assert numbers == sorted(set(numbers))


FIELD = st.text(st.sampled_from('ab ",\n\t;'), max_size=6)


@settings(max_examples=100, deadline=None)
@given(
    fields=st.lists(st.tuples(st.integers(0, 9).map(str), FIELD), max_size=10),
    mark=st.sampled_from([",", ";", "\t"]),
)
def test_files_of_the_csv_module_round_trip(fields, mark):
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=mark, lineterminator="\n").writerows([("id", "text"), *fields])
    file.seek(0)
    bad = BadRows("it")
    config = DataConfig(name="it", quoting=True)
    records = read_csv(file, ColumnSpec(("id", "text"), ()), config, mark, bad)
    assert [tuple(values) for _, values in records] == fields
    assert bad.read == len(fields) and not len(bad)


def test_notes_of_the_reader_are_cached(tmp_path, monkeypatch):
    monkeypatch.setenv("BERTFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("bertft.data.data_sources.MIN_CACHED_BYTES", 0)
    path = tmp_path / "a.tsv"
    path.write_text(QUOTED + "one\n\n")
    config = DataConfig(name="files", train=str(path))
    form = build_row_schema(config)
    states = []
    for _ in range(2):
        _, bad = read_rows(open_file(config, str(path), "data.train", form), form, "train", config)
        states.append(
            (bad.counts, bad.first_errors, bad.hints, bad.read, bad.blank_lines, bad.notes)
        )
    assert states[0] == states[1] and states[0][3:5] == (5, 1)
    assert len(states[0][5]) == 1


def test_notes_of_the_reader_are_in_the_report(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + '"one\ntwo",x\nthree,y\n' * 20)
    splits = load_splits(DataConfig(name="files", train=str(path)))
    assert splits.train.bad.notes == ["20 fields contain line breaks (the longest row has 2 lines)"]
    assert splits.validation.bad.notes == []
