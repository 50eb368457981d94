"""Files as people have them: joined, of old systems, numbered, of another format than their name.

Rows in such a file are used, reported, or the file is refused: none is lost, merged or made up.
"""

from __future__ import annotations

import json
import os

import pyarrow as pa
import pyarrow.parquet
import pytest

from bertft.config.data import DataConfig
from bertft.data.prediction_rows import open_input_file
from bertft.data.splits import load_splits, load_unlabelled
from bertft.errors import DataError


def train(path, content: str | bytes, **settings):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return load_splits(DataConfig(name="files", train=str(path), **settings), ("train",)).train


def texts(path, content: bytes, **settings):
    path.write_bytes(content)
    return load_unlabelled(str(path), DataConfig(name="files", **settings))


@pytest.mark.parametrize(("ending", "mark"), [(".csv", ","), (".tsv", "\t")])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_a_repeated_header_is_not_a_row(tmp_path, ending, mark, bom):
    content = f"text{mark}label\nrow 0{mark}a\nrow 1{mark}b\n"
    with pytest.raises(DataError, match=r"a\.[ct]sv:4: the header is repeated"):
        train(tmp_path / f"a{ending}", bom + content + bom + content)
    rows = train(
        tmp_path / f"a{ending}", bom + content + bom + content, on_bad_row="skip", max_skipped=1
    )
    assert rows.column("text") == ["row 0", "row 1"] * 2
    assert (rows.bad.read, rows.bad.counts) == (5, {"repeated header": 1})


def test_a_text_can_equal_the_name_of_its_only_column(tmp_path):
    assert texts(tmp_path / "a.csv", b"text\nrow\ntext\n").column("text") == ["row", "text"]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "gb18030", "utf-8"])
def test_a_bom_is_not_part_of_the_first_column_name(tmp_path, encoding):
    content = "\ufefftext,label\nrow 0,a\nrow 1,b\n".encode(encoding)
    rows = train(tmp_path / "a.csv", content, encoding=encoding)
    assert rows.column("text") == ["row 0", "row 1"]
    alone = texts(tmp_path / "a.txt", "\ufeffone\ntwo\n".encode(encoding), encoding=encoding)
    assert alone.column("text") == ["one", "two"]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r", b""])
def test_carriage_returns_end_lines_if_there_are_no_line_feeds(tmp_path, end):
    rows = texts(tmp_path / "a.txt", b"one\rtwo\rthree" + end)
    assert rows.column("text") == ["one", "two", "three"] and not rows.bad.notes


def test_carriage_returns_inside_lines_are_reported(tmp_path):
    rows = texts(tmp_path / "a.txt", b"one\r\ntwo\rthree\r\nfour\n")
    assert rows.column("text") == ["one", "two\rthree", "four"]
    assert rows.bad.notes[0].startswith("1 line has a carriage return inside")


@pytest.mark.parametrize("first", ["sep=;", "sep=;;;", "sep=; ", '"sep=;";;'])
def test_a_separator_line_can_be_padded(tmp_path, first):
    rows = train(tmp_path / "a.csv", f"{first}\ntext;label\na;x\nb, c;y\n")
    assert rows.column("text") == ["a", "b, c"] and rows.bad.other_lines["sep= line"] == 1


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\x04\x22\x4d\x18data", "compressed with lz4"),
        (b"\x1f\x9ddata", "compressed with compress"),
        (b"Rar!\x1a\x07\x01", "RAR"),
        (b"{\\rtf1\\ansi a}", "RTF"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS pointer"),
        (b'[{"text": "a"}, {"text": "b"}]', "a JSON document"),
        (b'[\n  {\n    "text": "a"\n  }\n]\n', "a JSON document"),
        (b'{\n  "text": "a"\n}\n', "a JSON document"),
    ],
)
def test_files_of_other_formats_are_rejected(tmp_path, content, what):
    with pytest.raises(DataError, match=what):
        texts(tmp_path / "a.txt", content)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_named_pipe_is_rejected(tmp_path):
    os.mkfifo(tmp_path / "a.jsonl")
    with pytest.raises(DataError, match=r"is a pipe or a device.*input=-"):
        open_input_file(str(tmp_path / "a.jsonl"), DataConfig(name="files"))


def test_an_unknown_extension_lists_the_supported_ones(tmp_path):
    with pytest.raises(DataError, match=r"\.pq, \.arrow, "):
        texts(tmp_path / "a.dat", b"one\n")


def test_a_repeated_key_is_an_error(tmp_path):
    """json keeps the last one."""
    good = '{"text": "x", "label": "a"}\n{"text": "y", "label": "b"}\n'
    with pytest.raises(DataError, match=r"a\.jsonl:3: the key 'label' occurs 2 times"):
        train(tmp_path / "a.jsonl", good + '{"text": "z", "label": "a", "label": "b"}\n')
    question = '{"id": "%d", "question": "Who?", "answers": [{"text": "Ada", "answer_start": 0}]}'
    paragraph = f'{{"context": "Ada", "qas": [{question % 0}], "qas": [{question % 1}]}}'
    content = f'{{"data": [{{"paragraphs": [{paragraph}]}}]}}'
    with pytest.raises(DataError, match="the key 'qas' occurs 2 times"):
        train(tmp_path / "a.json", content, task="question_answering")


def test_labels_of_invalid_types_are_rejected(tmp_path):
    good = '{"text": "x", "label": "a"}\n{"text": "y", "label": "b"}\n'
    with pytest.raises(DataError, match="the label is inf, not a finite number"):
        train(tmp_path / "a.jsonl", good + '{"text": "z", "label": 1e999}\n')
    with pytest.raises(DataError, match="is a mapping"):
        train(tmp_path / "a.jsonl", good + '{"text": "z", "label": {"a": 1}}\n', task="multi_label")


@pytest.mark.parametrize(
    "kind",
    [pa.binary_view(), pa.binary(5), pa.dictionary(pa.int32(), pa.binary())],
    ids=["view", "fixed", "dictionary"],
)
def test_binary_columns_of_parquet_files_are_decoded(tmp_path, kind):
    values = pa.array([b"row 0", None, b"row 1"])
    values = values.dictionary_encode() if pa.types.is_dictionary(kind) else values.cast(kind)
    pa.parquet.write_table(pa.table({"text": values}), tmp_path / "a.parquet")
    config = DataConfig(name="files", on_bad_row="skip", max_skipped=1.0)
    rows = load_unlabelled(str(tmp_path / "a.parquet"), config)
    assert rows.column("text") == ["row 0", "row 1"] and rows.bad.counts == {"empty text": 1}


@pytest.mark.parametrize("index", [False, True])
def test_concatenated_parquet_files_are_rejected(tmp_path, index):
    """Only the last footer was read, and with it the pages of the first file."""
    path = tmp_path / "a.parquet"
    table = pa.table({"text": [f"row {n}" for n in range(9)]})
    pa.parquet.write_table(table, path, row_group_size=2, write_page_index=index)
    content = path.read_bytes()
    assert len(texts(path, content)) == 9
    with pytest.raises(DataError, match="concatenated byte by byte"):
        texts(path, content + content)


def test_numeric_ids_of_questions_become_text(tmp_path):
    """A column of numbers with gaps holds 7.0, which was no id."""
    rows = [{"id": name, "question": "Who?", "context": "Ada"} for name in (7.0, 8, "9 ", None)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = DataConfig(name="files", task="question_answering")
    assert load_unlabelled(str(tmp_path / "a.jsonl"), config).column("id") == ["7", "8", "9 ", None]


def test_answers_as_serialized_text_are_rejected(tmp_path):
    """A cell of CSV that pandas wrote was scored as if it were the answer."""
    path = tmp_path / "a.csv"
    path.write_text(
        "id,question,context,answers\n"
        "1,Who?,Ada,\"{'text': array(['Ada'], dtype=object), 'answer_start': array([0])}\"\n"
    )
    config = DataConfig(name="files", task="question_answering", validation=str(path))
    with pytest.raises(DataError, match="an object written as text"):
        load_splits(config, ("validation",), training=False)


NUMBERED = "# source\n1\tAnn\tB-PER\n2\tsaid\tO\n3\tno\tO\n\n1\tBo\tB-PER\n"


@pytest.mark.parametrize("name", ["a.conll", "a.tsv", "a.conllu"])
def test_a_column_of_word_numbers_is_rejected(tmp_path, name):
    settings = {"task": "token_classification"}
    with pytest.raises(DataError, match=r"numbers the words.*data\.text=1"):
        train(tmp_path / name, NUMBERED, **settings)
    with pytest.raises(DataError, match="numbers the words"):
        texts(tmp_path / name, NUMBERED.encode(), **settings)
    assert train(tmp_path / name, NUMBERED, text=1, **settings).column("text") == [
        "Ann said no", "Bo",
    ]  # fmt: skip
    requested = texts(tmp_path / name, NUMBERED.encode(), text=1, **settings)
    assert requested.column("text") == [
        "Ann said no",
        "Bo",
    ]  # of a run that was trained on column 1


def test_multiword_tokens_of_conllu_are_read_once(tmp_path):
    content = "# text = al\n1-2\tal\t_\n1\ta\tADP\n2\tel\tDET\n2.1\tx\tX\n\n1\tmar\tNOUN\n"
    rows = train(tmp_path / "a.conllu", content, task="token_classification", text=1)
    assert rows.column("text") == ["a el", "mar"]
    assert sum(rows.bad.other_lines.values()) + rows.bad.read + rows.bad.blank_lines == 7


def test_a_word_that_looks_like_a_comment_keeps_its_columns(tmp_path):
    content = "#id\tO\nAnn\tB-PER\n\n#x=\tO\n\n# id = 7\nBo\tB-PER\n"
    rows = train(tmp_path / "a.conll", content, task="token_classification")
    assert rows.column("text") == ["#id Ann", "#x=", "Bo"]
    assert rows.bad.other_lines["comment"] == 1
