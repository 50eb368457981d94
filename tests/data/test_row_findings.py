"""Findings on rows: each with its number, an example and an action."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from bertft.config.data import DataConfig
from bertft.data.features import featurize
from bertft.data.row_findings import find_row_findings
from bertft.data.splits import load_splits

GOOD = [(f"a long and good film number {n} that everybody liked", "good") for n in range(10)]
BAD = [(f"the room {n * 7919} was dirty and the staff rude", "bad") for n in range(10)]
OTHER = [("we came by train", "good"), ("the soup is cold", "bad")]


def findings(tmp_path, train, validation, encode=None, **settings):
    for name, rows in (("train", train), ("validation", validation)):
        with open(tmp_path / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("text", "label"), *rows])
    config = DataConfig(
        name="x",
        train=str(tmp_path / "train.csv"),
        validation=str(tmp_path / "validation.csv"),
        **settings,
    )
    splits = load_splits(config)
    features = {}
    if encode is not None:
        features = {"train": featurize(splits.train, encode, [], None)}
    return {finding.kind: finding for finding in find_row_findings(splits, features, 4)}


def test_rows_without_a_problem_have_no_finding(tmp_path):
    assert findings(tmp_path, GOOD + BAD, OTHER) == {}


def test_a_class_that_validation_does_not_have(tmp_path):
    by_key = findings(tmp_path, GOOD + BAD, OTHER[:1])
    (finding,) = by_key.values()
    assert finding.kind == "missing_classes_validation"
    assert (finding.count, finding.total, finding.example) == (1, 2, "'bad'")
    assert "to validation.csv" in finding.advice and "validation_fraction" not in finding.advice


def test_a_class_that_the_held_out_rows_do_not_have(tmp_path):
    with open(tmp_path / "train.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *GOOD, *BAD, ("the only one", "rare")])
    splits = load_splits(DataConfig(name="x", train=str(tmp_path / "train.csv")))
    findings = {finding.kind: finding for finding in find_row_findings(splits, {}, 4)}
    assert "data.validation_fraction" in findings["missing_classes_validation"].advice


def test_the_same_text_with_another_label(tmp_path):
    train = [*GOOD, *BAD, ("The  ROOM 0 was dirty and the staff rude", "good")]
    finding = findings(tmp_path, train, OTHER)["contradictory_duplicates"]
    assert (finding.count, finding.total) == (2, 21)
    assert "train.csv:12" in finding.example and "is bad" in finding.example
    assert "train.csv:22 is good" in finding.example
    assert finding.message.endswith("but a different label (1 distinct text)")


def test_the_same_text_with_the_same_label_is_no_contradiction(tmp_path):
    assert findings(tmp_path, [*GOOD, *BAD, BAD[0]], OTHER) == {}


def test_numbers_contradict_if_they_are_far_apart(tmp_path):
    texts = [text for text, _ in GOOD]
    rows = [(text, number / 2) for number, text in enumerate(texts)]
    validation = [("we came by train", 1), ("the soup is cold", 2)]
    near = findings(tmp_path, [*rows, (texts[0], 0.2)], validation, task="regression")
    assert near == {}
    far = findings(tmp_path, [*rows, (texts[0], 4)], validation, task="regression")
    assert far["contradictory_duplicates"].count == 2


def test_label_lists_contradict_in_any_order(tmp_path):
    rows = [(text, "a|b") for text, _ in GOOD] + [(text, "c") for text, _ in BAD]
    validation = [("we came by train", "a|b|c")]
    settings = {"task": "multi_label"}
    assert findings(tmp_path, [*rows, (GOOD[0][0], "b|a")], validation, **settings) == {}
    by_key = findings(tmp_path, [*rows, (GOOD[0][0], "a")], validation, **settings)
    assert by_key["contradictory_duplicates"].count == 2


def test_validation_texts_that_are_in_train(tmp_path):
    near = ("a long and good film number 3 that everybody liked!", "good")
    same = ("THE room 0 was dirty and the staff  rude", "bad")
    finding = findings(tmp_path, GOOD + BAD, [*OTHER, near, same])["validation_texts_in_train"]
    assert (finding.count, finding.total) == (2, 4)
    assert finding.message.endswith(": 1 exactly (ignoring case and spaces), 1 nearly")
    assert "validation.csv:5" in finding.example and "train.csv:12" in finding.example
    finding = findings(tmp_path, GOOD + BAD, [*OTHER, near])["validation_texts_in_train"]
    assert (finding.count, finding.total) == (1, 3) and "validation.csv:4" in finding.example


def test_duplicates_of_held_out_rows_are_removed_before_the_split(tmp_path):
    with open(tmp_path / "train.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *GOOD, *BAD, *GOOD, *BAD])
    splits = load_splits(DataConfig(name="x", train=str(tmp_path / "train.csv")))
    by_key = {finding.kind: finding for finding in find_row_findings(splits, {}, 4)}
    assert "from the data before it is split" in by_key["validation_texts_in_train"].advice
    finding = findings(tmp_path, GOOD + BAD, [*OTHER, GOOD[0]])["validation_texts_in_train"]
    assert "from train or from validation" in finding.advice


def test_examples_have_whole_file_names(tmp_path):
    folder = tmp_path / "a b"
    folder.mkdir()
    for name, rows in (("my train", GOOD + BAD), ("my validation", [*OTHER, GOOD[0]])):
        with open(folder / f"{name}.csv", "w", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *rows])
    files = {name: str(folder / f"my {name}.csv") for name in ("train", "validation")}
    (finding,) = find_row_findings(load_splits(DataConfig(name="x", **files)), {}, 4)
    assert finding.example.startswith("my validation.csv:4 ")
    assert finding.example.endswith(" and my train.csv:2")


@pytest.mark.parametrize("cut", [0, 3])
def test_truncated_texts(tmp_path, cut):
    def encode(rows):
        count = len(rows["text"])
        cuts = np.zeros(count, np.int32)
        cuts[1] = cut
        return {
            "input_ids": [np.arange(4, dtype=np.int32)] * count,
            "cut_tokens": cuts,
            "row": np.arange(count),
        }

    by_key = findings(tmp_path, GOOD + BAD, OTHER, encode)
    if not cut:
        assert by_key == {}
        return
    finding = by_key["truncated_texts_train"]
    assert (finding.count, finding.total) == (1, 20)
    assert "(5.0%) are longer than 4 tokens; 3.6% of all tokens are cut" in finding.message
    assert "train.csv:3 with 7" in finding.example and "data.max_length" in finding.advice


@pytest.mark.parametrize(("fraction", "count"), [(None, 0), (0.05, 0), (0.4, 1)])
def test_tokens_outside_the_vocabulary(tmp_path, fraction, count):
    findings(tmp_path, GOOD + BAD, OTHER)  # writes the files
    files = {name: str(tmp_path / f"{name}.csv") for name in ("train", "validation")}
    splits = load_splits(DataConfig(name="x", **files))
    actual = find_row_findings(splits, {}, 4, fraction)
    assert [finding.kind for finding in actual] == ["unknown_tokens"] * count
    assert not count or actual[0].message.startswith("40.0% of the tokens in train")
