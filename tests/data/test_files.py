"""Each kind of file, read as a user would have it."""

from __future__ import annotations

import io
import json

import pyarrow as pa
import pyarrow.parquet
import pytest

from bertft.config.data import DataConfig
from bertft.data.readers.text_files import checked_head
from bertft.data.splits import load_splits, load_unlabelled
from bertft.errors import DataError, UsageError

pytestmark = pytest.mark.usefixtures("read_both_ways")


def read(path, content=None, **settings):
    """The training rows of one file; validation is the same file, so that nothing is cut off."""
    if isinstance(content, str):
        content = content.encode()
    if content is not None:
        path.write_bytes(content)
    config = DataConfig(name="files", train=str(path), validation=str(path), **settings)
    return load_splits(config).train


def pairs(rows) -> list[tuple[str, str]]:
    return list(zip(rows.column("text"), rows.column("label"), strict=True))


TWO = [("good, really", "pos"), ("bad", "neg")]


@pytest.mark.parametrize(
    ("name", "content", "settings"),
    [
        ("a.csv", 'text,label\n"good, really",pos\nbad,neg\n', {}),
        ("a.csv", '\ufefftext,label\r\n"good, really",pos\r\nbad,neg', {}),
        ("a.csv", 'label,x,text\npos,1,"good, really"\nneg,2,bad\n', {}),
        ("a.csv", 'pos,"good, really"\nneg,bad\n', {"text": 1, "label": 0}),
        ("a.csv", 'y,t\npos,"good, really"\nneg,bad\n', {"text": 1, "label": 0, "header": True}),
        ("a.csv", "text;label\ngood, really;pos\nbad;neg\n", {"separator": ";"}),
        ("a.csv", "text||label\ngood, really||pos\nbad||neg\n",
         {"separator": "||", "quoting": False}),
        ("a.data", "text\tlabel\ngood, really\tpos\nbad\tneg\n", {"separator": "\\t"}),
        ("a.tsv", "text\tlabel\ngood, really\tpos\n\nbad\tneg\n", {}),
        ("A.TSV", "text\tlabel\r\ngood, really\tpos\r\nbad\tneg\r\n", {}),
        ("a.jsonl",
         '{"text": "good, really", "label": "pos"}\n\n{"label": "neg", "text": "bad"}', {}),
        ("a.ndjson",
         '\ufeff{"text": "good, really", "label": "pos"}\n{"text": "bad", "label": "neg"}', {}),
    ],
)  # fmt: skip
def test_the_same_rows_in_many_writings(tmp_path, name, content, settings):
    assert pairs(read(tmp_path / name, content, **settings)) == TWO


def test_parquet(tmp_path):
    path = tmp_path / "a.parquet"
    text, label = zip(*TWO, strict=True)
    table = pa.table({"id": [1, 2], "label": pa.array(label).dictionary_encode(), "text": text})
    pa.parquet.write_table(table, path)
    assert pairs(read(path)) == TWO
    assert pairs(read(path, text=2, label=1)) == TWO


def test_parquet_with_text_as_bytes_and_integers_as_labels(tmp_path):
    path = tmp_path / "a.parquet"
    text = pa.array(["酒店".encode(), b"bad"], pa.binary())
    pa.parquet.write_table(pa.table({"text": text, "label": pa.array([1, 0], pa.int8())}), path)
    assert pairs(read(path)) == [("酒店", "1"), ("bad", "0")]


def test_parquet_with_two_columns_of_one_name(tmp_path):
    path = tmp_path / "a.parquet"
    columns = [pa.array(["x", "y"]), pa.array(["pos", "neg"]), pa.array(["z", "w"])]
    pa.parquet.write_table(pa.table(columns, ["text", "label", "text"]), path)
    assert pairs(read(path, text=2)) == [("z", "pos"), ("w", "neg")]
    with pytest.raises(DataError, match=r"data.text to a position: 0 or 2"):
        read(path)


def test_invalid_parquet_files_are_rejected(tmp_path):
    with pytest.raises(DataError, match=r"not a valid Parquet file"):
        read(tmp_path / "a.parquet", b"text,label")


def test_quoted_fields_can_contain_quotes_and_line_breaks(tmp_path):
    rows = read(tmp_path / "a.csv", 'text,label\n"say ""hi""\nthere",a\n\n6\' 2",b\nc,a\n')
    assert rows.column("text") == ['say "hi"\nthere', "6' 2\"", "c"]
    assert rows.column("line") == [2, 5, 6]
    assert rows.location(1).endswith("a.csv:5")


def test_quotes_of_tsv_are_characters(tmp_path):
    rows = read(tmp_path / "a.tsv", 'text\tlabel\n"open\ta\n"both"\tb\n')
    assert rows.column("text") == ['"open', '"both"']


def test_a_separator_inside_a_line_of_tsv_that_only_looks_like_a_line_end(tmp_path):
    rows = read(tmp_path / "a.tsv", "text\tlabel\none\u2028two\x0bthree\ta\nfour\tb\n")
    assert rows.column("text") == ["one\u2028two\x0bthree", "four"]


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030", "utf-16", "big5", "utf-8-sig"])
@pytest.mark.parametrize("name", ["中文.csv", "中文.tsv", "中文.jsonl"])
def test_chinese_in_its_encodings(tmp_path, encoding, name):
    texts = [("酒店 very 好,", "好評"), ("不好", "差評")]
    if name.endswith("jsonl"):
        lines = [json.dumps({"text": t, "label": k}, ensure_ascii=False) for t, k in texts]
    else:
        cut = "," if name.endswith("csv") else "\t"
        quote = '"' if name.endswith("csv") else ""
        lines = [f"text{cut}label", *(f"{quote}{t}{quote}{cut}{k}" for t, k in texts)]
    content = "\r\n".join(lines).encode(encoding)
    assert pairs(read(tmp_path / name, content, encoding=encoding)) == texts


def test_two_texts_and_a_number(tmp_path):
    settings = {"text": [0, 1], "label": 2, "task": "regression"}
    rows = read(tmp_path / "a.csv", "one,uno,1.5\ntwo,deux,4\n", **settings)
    assert rows.column("text") == ["one", "two"]
    assert rows.column("text_pair") == ["uno", "deux"]
    assert rows.column("label") == [1.5, 4.0]


def test_texts_are_not_changed(tmp_path):
    rows = read(tmp_path / "a.tsv", "text\tlabel\n  spaced out \t a \nb\tb\n")
    assert pairs(rows)[0] == ("  spaced out ", "a")


def test_a_long_text_in_quotes(tmp_path):
    text = "word " * 100_000
    assert read(tmp_path / "a.csv", f'text,label\n"{text}",a\nb,b\n').column("text")[0] == text


TAGS = {"task": "token_classification"}
BAD_FILES = [
    ("a.csv", "", {}, "a.csv: the file is empty"),
    ("a.jsonl", "\n \n", {}, "a.jsonl: the file is empty"),
    ("a.csv", "text,label\n", {}, "there are no rows"),
    ("a.csv", "sentence,label\nx,y\n", {}, "data.text: column 'text' not found"),
    ("a.csv", "texts,labels\nx,y\n", {}, "2 problems:\n"),
    ("a.csv", "texts,labels\nx,y\n", {}, "data.label: column 'label' not found"),
    ("a.csv", "text;labels\nx;y\n", {}, "the only column is 'text;labels'"),
    ("a.csv", "text;label\nx;y\n", {"separator": ","}, "the only column is 'text;label'"),
    ("a.jsonl", '{"text": "a", "labels": 1}', {}, "data.label: column 'label' not found"),
    ("a.csv", "a,b\nc,d\n", {"text": 0, "label": 2},
     "data.label=2, but the columns are numbered from 0 to 1"),
    ("a.csv", "a,b\n", {"text": "a", "header": False}, "has no header"),
    ("a.csv", "text,label,text\na,b,c\n", {}, "data.text to a position: 0 or 2"),
    ("a.jsonl", '{"text": "a", "label": 1}', {"text": 0}, "JSON objects have no positions"),
    ("a.csv", 'text,label\nb,a\n"a,b\nc,d\n', {}, r"a.csv:3: a double quote is never closed"),
    ("a.csv", "text,label\na,b\n", {"separator": "::", "quoting": True}, "data.quoting=false"),
    ("a.csv", "text,label\na,b\n", {"separator": '"'}, "not a valid separator"),
    ("a.json", "{}", {}, "column 'text' not found .columns: none"),
    ("a.jsonl", '[{"text": "a"}]', {}, "one JSON document, not one object per line.*format=json"),
    ("a.jsonl", '{\n"text": "a"}', {}, "one JSON document, not one object per line.*format=json"),
    ("a.csv", '{"text": "a"}\n', {}, "a.csv: the file contains JSON Lines.*Rename it to a.jsonl"),
    ("a.tsv", '\n{"text": "a"}\n', {}, "the file contains JSON Lines.*Rename it to a.jsonl"),
    ("a.txt", '{"text": "a"}', {"task": "masked_lm"}, "contains JSON Lines.*Rename it to a.jsonl"),
    ("a.txt", "text,labels\na,b\n", {}, "one text per line and no labels.*data.separator"),
    ("a.cvs", "text,label\na,b\n", {},
     "unknown file extension .cvs. Did you mean .csv.*data.separator"),
    ("a", "text,label\na,b\n", {}, "the file has no extension. Known extensions: .csv, .tsv"),
    ("a.conll", '{"words": ["EU"], "tags": ["O"]}', TAGS, "JSON Lines.*Rename it to a.jsonl"),
    ("a.conll.gz", "EU B-ORG\n", TAGS, "a.conll.gz: cannot be decompressed with gzip"),
    ("a.cnll.gz", "EU B-ORG\n", TAGS, "a.cnll.gz: cannot be decompressed with gzip"),
    ("a.conl", "EU B-ORG\n", TAGS, "unknown file extension .conl. Did you mean .conll"),
    ("a.pdf", "EU B-ORG\n", TAGS, "unknown file extension .pdf"),
    ("a.conll", b"PK\x03\x04 packed", TAGS, "a zip archive"),
    ("a.csv", b"\x1f\x8b\x08 packed", {}, "is compressed with gzip. Rename it to a.csv.gz"),
    ("a.jsonl", b"PK\x03\x04 packed", {}, "a zip archive, as Excel workbooks.*end in .xlsx"),
    ("a.txt", b"%PDF-1.7", {}, "is a PDF document"),
    ("a.csv", b"PAR1\x15\x04", {}, "is a Parquet file. Rename it to end in .parquet"),
    ("a.csv", "text,label\na,b\n".encode("utf-16"), {"encoding": "cp1252"},
     "byte order mark of utf-16, but data.encoding is cp1252. Set data.encoding=utf-16"),
    ("a.csv", "text,label\na,b\n".encode("utf-16-le"), {}, "NUL.*data.encoding=utf-16-le"),
    ("a.csv", "text,label\na,b\n", {"encoding": "utf-9"}, "unknown encoding 'utf-9'"),
    ("a.csv", "text,label\na,b\n", {"encoding": "base64"}, "unknown encoding 'base64'"),
    ("a.csv", "text,label\na,b\nc,d", {"encoding": "utf-16"}, "a.csv:1: the file is not valid"),
]  # fmt: skip


def test_json_lines_of_words_with_tags_may_be_called_json(tmp_path):
    lines = [
        '{"text": ["EU", "rejects"], "label": ["B-ORG", "O"]}',
        '{"text": ["I"], "label": ["O"]}',
    ]
    rows = read(tmp_path / "a.json", "\n".join(lines), **TAGS)
    assert rows.column("text") == ["EU rejects", "I"]
    assert rows.column("label") == [["B-ORG", "O"], ["O"]]


@pytest.mark.parametrize("name", ["eng.train", "eng.testa", "a.bio", "train", "a.data"])
def test_endings_of_words_with_tags(tmp_path, name):
    separator = {"separator": "tab"} if name == "a.data" else {}
    rows = read(tmp_path / name, "EU\tB-ORG\nrejects\tO\n\nI\tO\n", **TAGS, **separator)
    assert rows.column("text") == ["EU rejects", "I"]


@pytest.mark.parametrize(("name", "content", "settings", "message"), BAD_FILES)
def test_files_unlike_their_settings_are_rejected(tmp_path, name, content, settings, message):
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path / name, content, **settings)
    assert caught.value.status == 2


def test_the_nearest_column_is_named(tmp_path):
    with pytest.raises(DataError, match="'sentence'"):
        read(tmp_path / "a.csv", "sentence,label\nx,y\n", text="sentnce")


def test_a_missing_file_names_the_nearest(tmp_path):
    (tmp_path / "train.tsv").write_text("")
    with pytest.raises(
        DataError, match=r"data.train=.*trian.tsv: there is no such file.*train.tsv"
    ):
        read(tmp_path / "trian.tsv")


def test_a_folder_without_files_is_rejected(tmp_path):
    with pytest.raises(DataError, match="the folder has no data files"):
        read(tmp_path)
    with pytest.raises(DataError, match="there is no folder"):
        read(tmp_path / "none" / "a.csv")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"text": [*"abcdefghijklmnopq"]}, "expected 1 to 16 columns of text, got 17"),
        ({"text": []}, "expected 1 to 16 columns of text, got 0"),
        ({"text": [1.5]}, "neither a column name"),
        ({"text": True}, "neither a column name"),
        ({"text": ["a", "a"]}, "duplicate columns"),
        ({"label": ["a", "b"]}, "data.task=multi_label"),
    ],
)
def test_invalid_columns_are_rejected(tmp_path, settings, message):
    with pytest.raises(UsageError, match=message):
        read(tmp_path / "a.csv", "text,label\na,b\n", **settings)


@pytest.mark.parametrize(
    ("name", "content", "settings"),
    [
        ("a.txt", "one, two\nthree\n", {}),
        ("a.jsonl", '{"text": "one, two"}\n{"text": "three", "label": 7}', {}),
        ("a.csv", 'text\n"one, two"\nthree\n', {}),
        ("a.tsv", "one, two\nthree\n", {"text": 0}),
    ],
)
def test_inputs_to_predict_need_no_labels(tmp_path, name, content, settings):
    (tmp_path / name).write_text(content)
    rows = load_unlabelled(str(tmp_path / name), DataConfig(name="files", **settings))
    assert rows.column("text") == ["one, two", "three"]
    assert not rows.has_labels


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.parquet"])
@pytest.mark.parametrize("settings", [{}, {"text": 7_000_000}])
def test_a_header_without_end_is_not_printed(tmp_path, name, settings):
    """Its message was twice as long as the line, of two million characters."""
    names = [f"column {number}" for number in range(5_000)] + ["x" * 100_000]
    if name.endswith("parquet"):
        sink = io.BytesIO()
        pa.parquet.write_table(pa.table({name: pa.array(["a"]) for name in names}), sink)
        content = sink.getvalue()
    elif name.endswith("jsonl"):
        content = json.dumps(dict.fromkeys(names, "a")).encode()
    else:
        content = (("," if name == "a.csv" else "\t").join(names) + "\na\n").encode()
    with pytest.raises(DataError, match="column") as caught:
        read(tmp_path / name, content, **settings)
    assert len(str(caught.value)) < 3_000


def test_a_label_as_long_as_a_review_is_not_printed(tmp_path):
    content = "text,label\n" + "".join(f"a,{'long ' * 500}{row % 2}\nb,x\n" for row in range(9))
    with pytest.raises(DataError, match="more characters") as caught:
        read(tmp_path / "a.csv", content, labels=["x", "y" * 10_000])
    assert len(str(caught.value)) < 4_000


def test_a_list_without_brackets_is_rejected(tmp_path):
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("text,label\na,b\n")
    given = f"{tmp_path}/a.csv,{tmp_path}/b.csv"
    with pytest.raises(DataError, match=r"expected one file.*data.train=\[.*-m data.train="):
        load_splits(DataConfig(name="files", train=given))


def test_the_bytes_that_are_checked_are_read(tmp_path, monkeypatch):
    """One look at the beginning of a file: between two it could be replaced."""
    file = tmp_path / "a.csv"
    file.write_bytes(b"\n\ntext,label\na,b\n")
    opened, real = [], type(file).open

    def counted(path, *words):
        opened.append(path)
        return real(path, *words)

    with monkeypatch.context() as patch:
        patch.setattr(type(file), "open", counted)
        assert checked_head(file, "utf-8", "a.csv") == "text,label\na,b\n"
    assert opened == [file]
    file.write_bytes(b"\x1f\x8b" + b"x" * 100)
    with pytest.raises(DataError, match="compressed with gzip"):
        checked_head(file, "utf-8", "a.csv")


@pytest.mark.parametrize("name", ["idna", "punycode", "undefined", "base64"])
def test_codecs_that_are_not_for_files_are_rejected(tmp_path, name):
    (tmp_path / "a.csv").write_bytes(b"text,label\na,b\n")
    with pytest.raises(DataError, match=f"unknown encoding '{name}'"):
        checked_head(tmp_path / "a.csv", name, "a.csv")
