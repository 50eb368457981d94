"""Tables with one word per row: the words of a sentence become one row."""

from __future__ import annotations

import json
import math

import pyarrow as pa
import pytest
from pyarrow import parquet

from bertft.config.data import DataConfig
from bertft.data.prediction_rows import (
    InputErrors,
    check_sentence_columns,
    iter_row_blocks,
    open_input_file,
)
from bertft.data.splits import load_splits
from bertft.errors import DataError

pytestmark = pytest.mark.usefixtures("read_both_ways")

WORDS = [
    ("1", "EU", "NNP", "B-ORG"), ("1", "rejects, \"it\"", "VBZ", "O"),
    ("2", "Ann", "NNP", "B-PER"), ("2", "Lee", "NNP", "I-PER"), ("2", "sang", "VBD", "O"),
    ("3", "nan", "NN", "B-MISC"),
]  # fmt: skip
SENTENCES = [
    {"text": 'EU rejects, "it"', "label": ["B-ORG", "O"]},
    {"text": "Ann Lee sang", "label": ["B-PER", "I-PER", "O"]},
    {"text": "nan", "label": ["B-MISC"]},
]
NAMES = ("Sentence #", "Word", "POS", "Tag")
SETTINGS = {"sentence": "Sentence #", "text": "Word", "label": "Tag"}
SKIP = {"on_bad_row": "skip", "max_skipped": 1.0}


def only_first(words):
    """The sentence is named in its first row, as in the table of Kaggle."""
    before, rows = None, []
    for sentence, *values in words:
        rows.append((f"Sentence: {sentence}" if sentence != before else "", *values))
        before = sentence
    return rows


def table(words, names=NAMES, separator=","):
    lines = [names, *words] if names else words
    quoted = [
        separator.join(f'"{v.replace(chr(34), chr(34) * 2)}"' if '"' in v else v for v in line)
        for line in lines
    ]
    return "\n".join(quoted) + "\n"


def lines(words):
    return "".join(json.dumps(dict(zip(NAMES, row, strict=True))) + "\n" for row in words)


@pytest.fixture
def read(tmp_path):
    def build(content, name="train.csv", **settings):
        path = tmp_path / name
        if isinstance(content, pa.Table):
            parquet.write_table(content, path)
        else:
            path.write_text(content, encoding="utf-8", newline="")
        settings = {**SETTINGS, **settings}
        data = DataConfig(name="t", task="token_classification", train=str(path), **settings)
        return load_splits(data, ("train",)).train

    return build


def content(rows):
    return rows.slice(0, len(rows), ["text", "label"]).to_pylist()


@pytest.mark.parametrize("naming", [list, only_first])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_table_of_words(read, naming, line_end):
    rows = read(table(naming(WORDS)).replace("\n", line_end))
    assert content(rows) == SENTENCES
    assert rows.column("line") == [2, 4, 7]
    counts = rows.accounting()
    assert (counts["read"], counts["used"]) == (3, 3)
    # Every line of the file is counted: 3 sentences, the header and 3 further words.
    assert counts["other_lines"] == {"further word": 3, "header": 1}


def test_other_formats(read):
    assert content(read(lines(WORDS), "train.jsonl")) == SENTENCES
    rows = [dict(zip(NAMES, row, strict=True)) for row in only_first(WORDS)]
    assert content(read(json.dumps(rows), "train.json")) == SENTENCES
    assert content(read(table(WORDS, separator="\t"), "train.tsv", quoting=True)) == SENTENCES
    numbers = pa.table(
        {"n": [1.0, math.nan, 2.0, None, None, 3.0], "w": [row[1] for row in WORDS],
         "t": [row[3] for row in WORDS]}
    )  # fmt: skip
    rows = read(numbers, "train.parquet", sentence="n", text="w", label="t")
    assert content(rows) == SENTENCES and rows.accounting()["read"] == 3


def test_positions(read):
    rows = read(table(WORDS, names=None), sentence=0, text=1, label=-1)
    assert content(rows) == SENTENCES and rows.column("line") == [1, 3, 6]
    with pytest.raises(DataError, match=r"data\.sentence=9, but the columns are numbered"):
        read(table(WORDS, names=None), sentence=9, text=1, label=-1)


def test_sentences_that_are_numbered_within_documents(read):
    names = ("doc", "Sentence #", "Word", "POS", "Tag")
    words = [("a", *row) for row in WORDS] + [("b", *row) for row in WORDS]
    rows = read(table(words, names), sentence=["doc", "Sentence #"])
    assert content(rows) == SENTENCES * 2
    with pytest.raises(DataError) as raised:
        read(table(words, names))
    message = str(raised.value)
    assert "train.csv:8: the sentence '1' occurs again after another one" in message
    assert "data.sentence=[<document>,<sentence>]" in message


def test_a_column_that_does_not_exist(read):
    with pytest.raises(DataError, match=r"data\.sentence: column 'Sentence' not found") as raised:
        read(table(WORDS), sentence="Sentence")
    assert "Did you mean 'Sentence #'?" in str(raised.value)


def test_a_column_that_is_not_one_of_sentences(read):
    many = [(str(number), *row[1:]) for number, row in enumerate(WORDS)]
    with pytest.raises(DataError, match="6 of 6 sentences have one word"):
        read(table(many))
    long = [("1", "w", "X", "O")] * 2_001
    with pytest.raises(DataError, match="2,001 words in 1 sentences"):
        read(table(long))
    with pytest.raises(DataError, match=r"train\.csv:2: the first row has no value in the column"):
        read(table([("", *WORDS[0][1:]), *WORDS]))


@pytest.mark.parametrize("policy", ["error", "skip"])
def test_a_row_that_cannot_be_read_takes_its_sentence_with_it(read, policy):
    """The row may have been the first word of the next sentence, which is then incomplete."""
    broken = table(WORDS).splitlines()
    for position, skipped in ((4, {1}), (5, {1}), (3, {0, 1}), (1, {0}), (7, {2})):
        text = "\n".join([*broken[:position], "1,lost", *broken[position:]]) + "\n"
        good = [row for number, row in enumerate(SENTENCES) if number not in skipped]
        if policy == "skip":
            rows = read(text, **SKIP)
            assert content(rows) == good
            counts = rows.accounting()
            assert counts["read"] == 3 and counts["skipped"] == {
                "wrong number of columns": len(skipped)
            }
            lines_read = 3 + sum(counts["other_lines"].values())
            assert lines_read == len(text.splitlines())
            continue
        with pytest.raises(DataError, match=rf"train\.csv:{position + 1}: 2 columns where 4 are"):
            read(text)


def test_only_rows_that_cannot_be_read(read):
    with pytest.raises(DataError, match=r"no row can be used \(2 × wrong number of columns\)"):
        read(table([]) + "1,lost\n2,lost\n", **SKIP)


@pytest.mark.parametrize(
    ("row", "detail"),
    [
        (("2", "", "X", "O"), "train.csv:5: word 2 is empty"),
        (("2", "Lee", "X", ""), "train.csv:5: word 2 has no tag"),
        (("2", "Lee", "X", "B-"), "train.csv:5: 'B-' of the word 'Lee' is not a tag of bio"),
    ],
)
def test_a_word_that_is_invalid_is_reported_with_its_line(read, row, detail):
    words = [*WORDS[:3], row, *WORDS[4:]]
    with pytest.raises(DataError) as raised:
        read(table(words), scheme="bio")
    assert detail in str(raised.value)
    # With a blank line inside, the lines of the words are not consecutive.
    text = table(words).splitlines()
    with pytest.raises(DataError, match=r"train\.csv:4: "):
        read("\n".join([*text[:4], "", *text[4:]]), scheme="bio")


def test_rows_to_predict(tmp_path):
    settings = DataConfig(name="t", task="token_classification", **SETTINGS)
    (tmp_path / "words.csv").write_text(table(only_first(WORDS)), encoding="utf-8")
    (tmp_path / "texts.csv").write_text("text,id\nAnn sang,7\nEU\nOslo,8\n", encoding="utf-8")

    def blocks(name, keep=None):
        source = open_input_file(str(tmp_path / name), settings, keep)
        return source, next(iter_row_blocks(source, InputErrors(source.name), 99, 9_999))

    source, rows = blocks("words.csv", ["POS"])
    assert [row.values[0] for row in rows] == [row["text"] for row in SENTENCES]
    assert [row.kept_values for row in rows] == [("NNP",), ("NNP",), ("NN",)]
    check_sentence_columns(source, settings)
    source, rows = blocks("texts.csv", ["id"])
    assert [row.values and row.values[0] for row in rows] == ["Ann sang", None, "Oslo"]
    assert [row.line for row in rows] == [2, 3, 4]
    with pytest.raises(DataError, match=r"data\.sentence: column 'Sentence #' not found"):
        check_sentence_columns(source, settings)
