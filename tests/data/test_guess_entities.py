"""Files of words, tags and spans with other column names: the proposed settings read them."""

from __future__ import annotations

import json

import pytest

from bertft.config.data import DataConfig
from bertft.data.guess_columns import propose_settings
from bertft.data.splits import load_splits
from bertft.errors import DataError

KAGGLE = [
    ["Sentence: 1", "EU", "NNP", "B-ORG"], ["", "rejects", "VBZ", "O"],
    ["Sentence: 2", "Ann", "NNP", "B-PER"], ["", "Lee", "NNP", "I-PER"], ["", "sang", "VBD", "O"],
]  # fmt: skip
NUMBERED = [[int(row[1] in ("Ann", "Lee", "sang")), row[1], row[3]] for row in KAGGLE]
TASK = "data.task=token_classification"


@pytest.mark.parametrize(
    ("names", "rows", "settings"),
    [
        (["Sentence #", "Word", "POS", "Tag"], KAGGLE,
         ["data.sentence='Sentence #'", "data.text=Word", "data.label=Tag"]),
        (["sentence_id", "words", "labels"], NUMBERED,
         ["data.sentence=sentence_id", "data.text=words", "data.label=labels"]),
        (["line", "token", "pos", "ner"], KAGGLE,  # named in the first row of the sentence
         ["data.sentence=line", "data.text=token", "data.label=ner"]),
        (["id", "words", "ner_tags"], [["a", ["EU", "it"], [3, 0]], ["b", ["so"], [0]]],
         ["data.text=words", "data.label=ner_tags"]),
        (["n", "sentence", "word_labels"], [["1", "EU rejects it", "B-ORG O O"], ["2", "so", "O"]],
         ["data.text=sentence", "data.label=word_labels"]),
        (["content", "annotation"], [["EU it", [[0, 2, "ORG"]]], ["so", []]],
         ["data.text=content", "data.label=annotation"]),
        (["content", "annotation"], [["EU it", '[[0, 2, "ORG"]]'], ["so", ""]],
         ["data.text=content", "data.label=annotation"]),
    ],
)  # fmt: skip
def test_columns_of_entities(names, rows, settings):
    assert propose_settings(names, rows, "classification") == [TASK, *settings]
    assert propose_settings(names, rows, "token_classification") == settings


@pytest.mark.parametrize(
    ("names", "rows"),
    [
        (["word", "tag"], [row[1::2] for row in KAGGLE]),  # the sentences are unknown
        (["sentence", "note"], [["EU rejects it", "B-ORG O"], ["so", "O"]]),
        (["content", "annotation"], [["EU it", [[0, 2]]], ["so", []]]),
    ],
)
def test_no_columns_of_entities(names, rows):
    assert propose_settings(names, rows, "token_classification") == []


def test_given_columns_are_not_repeated():
    names = ["Sentence #", "Word", "POS", "Tag"]
    settings = ["data.sentence='Sentence #'", "data.text=Word"]
    assert propose_settings(names, KAGGLE, "token_classification", label=["Tag"]) == settings


@pytest.mark.parametrize("task", ["classification", "token_classification"])
@pytest.mark.parametrize(("name", "separator"), [("ner.csv", ","), ("ner.tsv", "\t")])
def test_the_settings_for_a_table_of_words_read_it(tmp_path, task, name, separator):
    path = tmp_path / name
    names = ["Sentence #", "Word", "POS", "Tag"]
    lines = [separator.join(row) for row in (names, *KAGGLE)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(DataError) as raised:
        load_splits(DataConfig(name="files", task=task, train=str(path)), ("train",))
    proposed = dict(
        item.removeprefix("data.").split("=") for item in raised.value.proposed_settings
    )
    proposed = {name: value.strip("'") for name, value in proposed.items()}
    data = DataConfig(name="files", **{"task": task, **proposed}, train=str(path))
    assert load_splits(data, ("train",)).train.column("text") == ["EU rejects", "Ann Lee sang"]


@pytest.mark.parametrize("header", ["text\tlabel\n", "sentence\ttags\n", ""])
def test_the_settings_for_sentences_with_tags_read_them(tmp_path, header):
    path = tmp_path / "train.tsv"
    path.write_text(f"{header}EU rejects it\tB-ORG O O\nAnn sang\tB-PER O\n", encoding="utf-8")
    config = {"name": "files", "task": "token_classification", "train": str(path)}
    with pytest.raises(DataError, match=r"a sentence and its tags.*data\.format=tsv") as raised:
        load_splits(DataConfig(**config), ("train",))
    proposed = dict(
        item.removeprefix("data.").split("=") for item in raised.value.proposed_settings
    )
    proposed = {name: int(value) if value.isdigit() else value for name, value in proposed.items()}
    rows = load_splits(DataConfig(**config, **proposed), ("train",)).train
    assert rows.column("label") == [["B-ORG", "O", "O"], ["B-PER", "O"]]


def test_spans_under_another_name_are_proposed(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"text": "EU it", "gold": [[0, 2, "ORG"]]}) + "\n", encoding="utf-8")
    with pytest.raises(DataError) as raised:
        load_splits(DataConfig(name="files", train=str(path)), ("train",))
    assert raised.value.proposed_settings == [TASK, "data.label=gold"]


def test_another_file_than_a_table_of_words(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(
        json.dumps({"text": "EU it", "label": [[0, 2, "ORG"]]}) + "\n", encoding="utf-8"
    )
    data = {"name": "files", "task": "token_classification", "train": str(path)}
    with pytest.raises(DataError, match=r"data\.sentence: column 'Sentence #' not found") as raised:
        load_splits(DataConfig(**data, sentence="Sentence #", text="Word", label="Tag"), ("train",))
    proposed = ["data.text=text", "data.label=label", "data.sentence=null"]
    assert raised.value.proposed_settings == proposed
