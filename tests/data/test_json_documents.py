"""JSON: arrays, indented objects and JSON Lines in files of one extension, and nested keys."""

from __future__ import annotations

import json

import pytest

from bertft.config.data import DataConfig
from bertft.data.prediction_rows import InputErrors, iter_row_blocks, open_input_file
from bertft.data.readers import json_documents, text_files
from bertft.data.splits import load_splits, load_unlabelled
from bertft.errors import DataError, UsageError

ROWS = [
    {"text": 'say "[hi]", {you}', "label": "a", "n": 1200.5, "more": [1, {"x": "]"}]},
    {"text": "line\nbreak \\ 好 \U0001f600", "label": "b", "n": -3e7, "more": None},
    {"n": 0, "label": "a", "text": "c", "more": True},
]
WRITINGS = {
    "one line": json.dumps(ROWS),
    "indented": json.dumps(ROWS, indent=2, ensure_ascii=False),
    "an object per line": "[\n" + ",\n".join(map(json.dumps, ROWS)) + "\n]\n",
    "blanks": "\n\n [ " + " ,\n ".join(map(json.dumps, ROWS)) + " ] \n\n",
    "JSON Lines": "\n".join(map(json.dumps, ROWS)),
    "objects in a row": "".join(json.dumps(row, indent=1) for row in ROWS),
    "byte order mark": "\ufeff" + json.dumps(ROWS),
}


def read(path, content=None, **settings):
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    data = DataConfig(name="files", train=str(path), validation=str(path), **settings)
    return load_splits(data).train


def refused(path, content, **settings) -> str:
    with pytest.raises((DataError, UsageError)) as raised:
        read(path, content, **settings)
    return str(raised.value)


@pytest.mark.usefixtures("read_both_ways")
@pytest.mark.parametrize("writing", WRITINGS)
def test_the_same_rows_in_many_writings(tmp_path, writing):
    rows = read(tmp_path / "a.json", WRITINGS[writing])
    assert rows.column("text") == [row["text"] for row in ROWS]
    assert rows.column("label") == ["a", "b", "a"]
    assert rows.column("line") == [1, 2, 3]
    assert rows.accounting()["read"] == 3
    unit = "" if writing == "JSON Lines" else ", object "
    assert rows.location(2).endswith(f"a.json{unit or ':'}3")


@pytest.mark.parametrize("writing", ["one line", "indented", "blanks", "objects in a row"])
def test_values_around_the_end_of_a_chunk(tmp_path, monkeypatch, writing):
    expected = [row["text"] for row in ROWS]
    for size in range(1, 40):
        monkeypatch.setattr(json_documents, "_CHUNK_CHARACTERS", size)
        assert read(tmp_path / "a.json", WRITINGS[writing]).column("text") == expected


def test_numbers_at_the_end_of_a_chunk_are_whole(monkeypatch):
    content = "[12345678, -1.5e-7, true, null, 9]"
    for size in range(1, 12):
        chunks = [content[at : at + size] for at in range(0, len(content), size)]
        values = [value for value, _ in json_documents._JsonDocument(chunks, "a").iter_values()]
        assert values == json.loads(content)


@pytest.mark.parametrize(
    ("content", "where", "problem"),
    [
        ('[{"text": "a", "label": "x"}\n{"text"', "a.json:2", "expected a comma"),
        ('[{"text": "a", "label": "x"},\n\n]', "a.json:3", "a comma before the end"),
        ('[{"text": "a", "label": "x"}]\n[1]', "a.json:2", "text after the end of the array"),
        ('[\n{"text": "a", "label": "x"},\n{"text": "b', "a.json:3", "Unterminated string"),
        ('[{"text": "a", "label": "x"}', "a.json:1", "expected a comma or the end"),
        ('[{"text": "a", "label": x}]', "a.json:1", "Expecting value"),
        ("[" * 100_000, "a.json:1", "nested too deeply"),
        (f'[{{"text": "a", "label": {"1" * 5_000}}}]', "a.json:1", "too many digits"),
    ],
)  # fmt: skip
def test_text_that_is_not_json(tmp_path, content, where, problem):
    message = refused(tmp_path / "a.json", content)
    assert f"{where}: not JSON" in message and problem in message


def test_a_value_without_end_is_not_read_to_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(json_documents, "_CHUNK_CHARACTERS", 100)
    monkeypatch.setattr(json_documents, "_MAX_VALUE_CHARACTERS", 1_000)
    content = '[{"text": "a", "label": "x"}, {"text": "' + "b" * 100_000
    path = tmp_path / "a.json"
    assert "a value has more than 1,000 characters" in refused(path, content)


def test_elements_that_are_not_rows_are_bad_rows(tmp_path):
    path = tmp_path / "a.json"
    rows = [*ROWS[:2], 7, None, "text", [ROWS[0]], ROWS[2]]
    content = json.dumps(rows)[:-1] + ', {"text": "d", "label": "a", "text": "e"}]'
    message = refused(path, content)
    assert "a.json, object 3: not a JSON object" in message
    assert "the key 'text' occurs 2 times" in message
    kept = read(path, on_bad_row="skip", max_skipped=1.0)
    assert kept.column("line") == [1, 2, 7]
    assert kept.accounting()["read"] == 8
    assert kept.accounting()["skipped"] == {"not a JSON object": 4, "repeated key": 1}


@pytest.mark.parametrize("content", ["[{0}, 3, {1}]", "{0}\n3\n{1}\n", "{0}\n3\n{1"])
def test_predict_has_a_prediction_or_error_per_row_in_order(tmp_path, content):
    """Errors of the reader among the first objects were reported before the rows above them."""
    path = tmp_path / "a.json"
    content = content.replace("{0}", json.dumps(ROWS[0])).replace("{1}", json.dumps(ROWS[1]))
    path.write_text(content.replace("{1", json.dumps(ROWS[1])[:-1]))
    source = open_input_file(str(path), DataConfig(name="x"), "all")
    assert source.kept_names == ("text", "label", "n", "more")
    [block] = iter_row_blocks(source, InputErrors(source.name), 100, 10_000)
    assert [row.line for row in block] == [1, 2, 3]
    is_whole = content.rstrip().endswith(("}", "]"))
    assert [row.error is None for row in block] == [True, False, is_whole]


NESTED = [
    {"id": {"n": 1}, "review": {"text": "good", "by": {"name": "Ada"}}, "a.b": "x"},
    {"id": {"n": 2}, "review": {"text": "bad", "by": None}, "a.b": "y", "a": {"b": "z"}},
]


@pytest.mark.parametrize("writing", [json.dumps, lambda rows: "\n".join(map(json.dumps, rows))])
def test_nested_keys(tmp_path, writing):
    path = tmp_path / "a.json"
    rows = read(path, writing(NESTED), text="review.text", label="id.n")
    assert rows.column("text") == ["good", "bad"] and rows.column("label") == ["1", "2"]
    assert read(path, label="a.b", text="review.text").column("label") == ["x", "y"]
    message = refused(path, None, text="review.txt", label="a.b")
    assert "'review.txt' not found" in message and "review.text" in message
    message = refused(path, None, text="review.by.name", label="a.b")
    assert "a.json" in message and "empty text" in message, "the second row has no such key"


def test_kept_nested_keys(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(NESTED))
    config = DataConfig(name="x", text="review.text")
    assert open_input_file(str(path), config, "all").kept_names == ("id", "review", "a.b", "a")
    source = open_input_file(str(path), config, ["id.n", "review.by.name"])
    [block] = iter_row_blocks(source, InputErrors(source.name), 100, 10_000)
    assert [list(row.kept_values) for row in block] == [[1, "Ada"], [2, None]]
    with pytest.raises(DataError, match=r"review\.text"):
        open_input_file(str(path), config, "review.tex")


def test_another_name_of_a_nested_text_is_proposed(tmp_path):
    rows = [{"meta": {"n": n}, "body": {"words": f"text {n} " * 9}, "label": "ab"[n % 2]}
            for n in range(30)]  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(rows))
    data = DataConfig(name="files", train=str(tmp_path / "a.json"))
    with pytest.raises(DataError) as raised:
        load_splits(data)
    assert raised.value.proposed_settings == ["data.text=body.words"]


@pytest.mark.parametrize("task", ["classification", "masked_lm", "regression"])
def test_lists_of_words_are_texts(tmp_path, task):
    rows = [
        {"text": ["so", "good", "!"], "label": 1}, {"text": ["很", "好"], "label": 2},
        {"text": ["a", " ", ""], "label": 1},
    ]  # fmt: skip
    read_rows = read(tmp_path / "a.json", json.dumps(rows), task=task)
    assert read_rows.column("text") == ["so good !", "很好", "a"]
    for words in (["a", 7], ["a", None], [], [""]):
        message = refused(tmp_path / "b.json", json.dumps([*rows, {"text": words, "label": 1}]))
        assert "object 4" in message and "text" in message


def test_lists_of_words_are_words(tmp_path):
    rows = [{"words": ["EU", "rejects"], "tags": ["B-ORG", "O"]}, {"words": ["I"], "tags": ["O"]}]
    read_rows = read(
        tmp_path / "a.json", json.dumps(rows), task="token_classification", text="words",
        label="tags",
    )  # fmt: skip
    assert read_rows.column("text") == ["EU rejects", "I"]


def test_rows_of_questions_in_an_array_or_in_lines(tmp_path):
    rows = [{"id": str(n), "question": f"q{n}", "context": "here", "answer": "here"}
            for n in range(3)]  # fmt: skip
    squad = {"data": [{"paragraphs": [{"context": "here", "qas": [
        {"id": str(n), "question": f"q{n}", "answers": [{"text": "here", "answer_start": 0}]}
        for n in range(3)]}]}]}  # fmt: skip
    settings = {"task": "question_answering"}
    contents = (
        json.dumps(rows), json.dumps(rows, indent=1), "\n".join(map(json.dumps, rows)),
        json.dumps(squad), json.dumps(squad, indent=1),
    )  # fmt: skip
    for content in contents:
        assert read(tmp_path / "a.json", content, **settings).column("question") == [
            "q0", "q1", "q2"
        ]  # fmt: skip
    assert "question 2" in read(tmp_path / "a.json", contents[3], **settings).location(1)


def test_one_object_with_the_rows_in_it(tmp_path):
    content = {"version": 2, "rows": ROWS}
    for text in (json.dumps(content), json.dumps(content, indent=2)):
        message = refused(tmp_path / "a.json", text)
        assert "'rows' has a list of objects" in message and """jq -c '.["rows"][]'""" in message
    columns = {name: {str(n): row[name] for n, row in enumerate(ROWS)} for name in ROWS[0]}
    assert "orient='records'" in refused(tmp_path / "a.json", json.dumps(columns))
    assert "column 'text' not found" in refused(tmp_path / "a.json", '{"version": 2, "rows": []}')


TABLE = "text\tlabel\nso good, really\ta\nbad\tb\n"


@pytest.mark.parametrize(
    ("name", "content", "settings"),
    [
        ("a.txt", TABLE, {"format": "tsv"}),
        ("a.csv", TABLE, {"format": "tsv"}),
        ("a.conll", TABLE, {"format": "tsv"}),
        ("a.tsv", TABLE.replace(",", "").replace("\t", ","), {"format": "csv"}),
        ("a.tsv", TABLE.replace("\t", ";"), {"format": "csv", "separator": ";"}),
        ("a.txt", json.dumps(ROWS), {"format": "json"}),
        ("a.jsonl", json.dumps(ROWS), {"format": "json"}),
        ("a.csv", "\n".join(map(json.dumps, ROWS)), {"format": "jsonl"}),
        ("rows", "\n".join(map(json.dumps, ROWS)), {"format": "jsonl"}),
        ("a.data", "EU O\nI O\n\nit B-X\n", {"format": "conll", "task": "token_classification"}),
    ],
)  # fmt: skip
def test_a_format_overrides_the_extension(tmp_path, name, content, settings):
    assert len(read(tmp_path / name, content, **settings)) >= 2


def test_a_format_that_does_not_fit(tmp_path):
    path = tmp_path / "a.txt"
    assert (
        "conll is a format of the task token_classification, but the task is classification"
        in refused(path, TABLE, format="conll")
    )
    message = refused(path, TABLE, format="text")
    assert "the format text has no labels, which the task classification needs" in message
    assert "csv, tsv" in message and "conll" not in message and "document" not in message
    pair = refused(path, TABLE, format="text", text=["a", "b"])
    assert "one text per row, but the rows of the task classification have 2" in pair
    assert "JSON Lines" in refused(tmp_path / "a.csv", '{"text": "a"}\n')
    assert "not a valid Parquet file" in refused(path, TABLE, format="parquet")
    assert "is compressed with gzip" in refused(path, b"\x1f\x8b\x08 packed", format="csv")


def test_a_table_that_is_called_text(tmp_path):
    """A .txt file of rows to predict has one text per line, unless it begins with a header."""
    path = tmp_path / "a.txt"
    path.write_text(TABLE)
    for settings in ({}, {"task": "masked_lm"}, {"format": "tsv"}):
        rows = load_unlabelled(str(path), DataConfig(name="x", **settings))
        assert rows.column("text") == ["so good, really", "bad"]
    rows = load_unlabelled(str(path), DataConfig(name="x", format="text"))
    assert rows.column("text") == TABLE.splitlines()


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.json", "a.txt", "a.conll"])
def test_a_line_without_end_is_not_read_to_the_end(tmp_path, monkeypatch, name):
    monkeypatch.setattr(text_files, "MAX_LINE_CHARACTERS", 1_000)
    path = tmp_path / name
    separator = "\t" if name == "a.tsv" else ","
    first = '{"text": "x", "label": "a"}' if "json" in name else f"text{separator}label"
    path.write_text(f"{first}\n{'word ' * 10_000}\n")
    task = "token_classification" if name == "a.conll" else "classification"
    with pytest.raises(DataError, match=rf"{name}:2: the line has more than 1,000 characters"):
        load_unlabelled(str(path), DataConfig(name="x", task=task))


def test_pairs_of_spacy_in_a_key_of_one_object(tmp_path):
    pairs = [["EU rejects it", {"entities": [[0, 2, "ORG"]]}]] * 3
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"classes": ["ORG"], "annotations": pairs}), encoding="utf-8")
    config = DataConfig(name="files", task="token_classification", train=str(path))
    with pytest.raises(DataError, match=r"jq -c '...annotations..... rows.json > rows.jsonl"):
        load_splits(config, ("train",))
