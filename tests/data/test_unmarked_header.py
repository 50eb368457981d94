"""A header is not read as a row where columns are requested by position."""

from __future__ import annotations

import pytest

from bertft.config.data import DataConfig
from bertft.data.splits import load_splits, load_unlabelled
from bertft.errors import DataError

TEXTS = [f"a text with some words in it, number {row}" for row in range(12)]


def read(path, lines, task="classification", **settings):
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = DataConfig(
        name="x", task=task, train=str(path), validation=str(path), text=0,
        **{"label": 1, **settings},
    )  # fmt: skip
    return load_splits(config)


def rows(labels):
    return [f"{text}\t{label}" for text, label in zip(TEXTS, labels * 12, strict=False)]


@pytest.mark.parametrize(
    ("header", "labels", "task"),
    [
        ("text\tlabel", ["neg", "pos"], "classification"),
        ("review\tstars", ["1", "2"], "classification"),
        ("foo\tbar", ["1", "2"], "classification"),  # text above numbers
        ("Satz\tKlasse", ["gut", "schlecht"], "classification"),  # one word, once, above sentences
        ("评论\t标签", ["好", "坏"], "classification"),
        ("text\ttopics", ["a|b", "b"], "multi_label"),
        ("whatever\tvalue", ["1.5", "2.5"], "regression"),
    ],
)
@pytest.mark.parametrize("policy", ["error", "skip"])
def test_a_header_is_not_a_row(tmp_path, header, labels, task, policy):
    path, lines = tmp_path / "a.tsv", [header, *rows(labels)]
    with pytest.raises(
        DataError, match=r"a.tsv:1: the first line may be.*data.header=true"
    ) as content:
        read(path, lines, task, on_bad_row=policy)
    assert str(content.value).startswith(f"{path}:1: ")
    assert len(read(path, lines, task, header=True).train) == 12
    expected = 13 if task != "regression" else 12  # a header is no number
    assert (
        len(read(path, lines, task, header=False, on_bad_row="skip", max_skipped=0.5).train)
        == expected
    )


def test_of_several_columns(tmp_path):
    lines = ["text\trude\tloud", *(f"{text}\t0\t1" for text in TEXTS)]
    with pytest.raises(DataError, match=r"data.header=true"):
        read(tmp_path / "a.tsv", lines, "multi_label", label=[1, 2])


@pytest.mark.parametrize(
    "first", ["A text of its own\tneg", "a rare one indeed\tneutral", "text\tneg", "bad\tneg"]
)
def test_a_first_row_is_not_mistaken_for_a_header(tmp_path, first):
    assert len(read(tmp_path / "a.tsv", [first, *rows(["neg", "pos"])]).train) == 13


def test_an_invalid_first_row_is_not_mistaken_for_a_header(tmp_path):
    lines = ["x\tno number", "y\tnone", *rows(["1.5"])]
    with pytest.raises(DataError, match="4 bad rows"):
        read(tmp_path / "a.tsv", lines, "regression")


def test_rows_to_answer(tmp_path):
    path = tmp_path / "new.csv"
    path.write_text("text\n" + "\n".join(text.replace(",", "") for text in TEXTS))
    with pytest.raises(DataError, match="the first line may be a header"):
        load_unlabelled(str(path), DataConfig(name="x", text=0))
    for header in (True, False):
        actual = load_unlabelled(str(path), DataConfig(name="x", text=0, header=header))
        assert len(actual) == 13 - header
