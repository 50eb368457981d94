from __future__ import annotations

import io
import json

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from bertft.config.data import DataConfig
from bertft.data.features import featurize
from bertft.data.rows import BadRows, Rows
from bertft.data.splits import load_splits
from bertft.data.statistics import (
    SpecialTokenIds,
    count_overlap,
    format_split_accounting,
    make_data_table,
    summarize_splits,
    unknown_token_share,
)

NONE = SpecialTokenIds()
ROWS = [("one two three", "a"), ("one", "b"), ("one two", "a"), ("two words", "b"), ("", "b")]


def encode(columns):
    sizes = [len(text.split()) for text in columns["text"]]
    return {
        "input_ids": [[7] * min(size, 2) for size in sizes],
        "row": np.arange(len(sizes)),
        "cut_tokens": np.array([max(0, size - 2) for size in sizes], np.int32),
    }


def write(path):
    path.write_text("text,label\none,a\ntwo,b\n")
    return str(path)


def framed(columns):
    """[CLS] ? ? [SEP] and [CLS] ? known [SEP]"""
    return {"input_ids": [[2, 1, 1, 3], [2, 1, 5, 3]], "row": np.arange(2)}


def report_on(path, rows, special=NONE, **settings):
    path.write_text("\n".join(json.dumps({"text": text, "label": label}) for text, label in rows))
    (path.parent / "dev.jsonl").write_text(
        '{"text": " one two ", "label": "a"}\n{"text": "new", "label": "b"}'.replace(
            '"a"', json.dumps(rows[0][1])
        ).replace('"b"', json.dumps(rows[1][1]))
    )
    dev = str(path.parent / "dev.jsonl")
    splits = load_splits(
        DataConfig(
            name="x",
            train=str(path),
            validation=dev,
            on_bad_row="skip",
            max_skipped=1.0,
            **settings,
        )
    )
    return summarize_splits(
        splits, {name: featurize(rows, encode, [], None) for name, rows in splits.items()}, special
    )


def test_the_report_counts_rows_tokens_and_labels(tmp_path):
    report = report_on(tmp_path / "a.jsonl", ROWS)
    train = report.splits["train"]
    assert (train.rows, train.features) == (4, 4)
    assert train.lengths == {"min": 1.0, "median": 2.0, "90 %": 2.0, "max": 2.0, "mean": 1.75}
    assert train.truncated == 0.25
    assert train.cut_tokens == 1 / 8
    assert train.full_lengths["max"] == 3 and train.lengths["max"] == 2
    assert train.labels == {"a": 0.5, "b": 0.5}
    assert train.skipped == {"empty text": 1}
    assert train.files == [str(tmp_path / "a.jsonl")]
    assert report.overlap == 1
    json.dumps(report.to_dict())


@pytest.mark.parametrize(
    ("task", "labels", "expected"),
    [
        ("regression", [1.0, 2.0, 6.0], {"min": 1.0, "mean": 3.0, "max": 6.0}),
        ("multi_label", ["x|y", "y", "x|y"], {"x": 2 / 3, "y": 1.0}),
    ],
)
def test_labels_of_other_tasks(tmp_path, task, labels, expected):
    rows = [(f"text {folder}", label) for folder, label in enumerate(labels)]
    assert report_on(tmp_path / "a.jsonl", rows, task=task).splits["train"].labels == expected


@pytest.mark.parametrize(
    ("unknown", "train", "validation"), [(7, 1.0, 1.0), (1, 0.0, 0.0), (None, None, None)]
)
def test_the_share_of_unknown_tokens(tmp_path, unknown, train, validation):
    report = report_on(tmp_path / "a.jsonl", ROWS, special=SpecialTokenIds(unknown, (1, 9)))
    assert report.splits["train"].unknown == train
    assert report.splits["validation"].unknown == validation
    content = [note for note in report.notes if "vocabulary" in note]
    assert content == (
        [
            "warning: many tokens are not in the model's vocabulary (train 100%, validation"
            " 100%); choose a model for the language and script of the texts"
        ]
        if unknown == 7
        else []
    )
    out = io.StringIO()
    Console(file=out, width=200).print(make_data_table(report))
    assert {7: "100.0%", 1: "0.0%", None: "none"}[unknown] in out.getvalue()


def test_special_tokens_do_not_lower_the_unknown_share(tmp_path):
    """[CLS] and [SEP] would make short rows of unknown words look known."""
    file = write(tmp_path / "a.csv")
    rows = load_splits(DataConfig(name="x", train=file, validation=file)).train
    table_ = featurize(rows, framed, [], None)
    for special, share in ((SpecialTokenIds(1, (1, 2, 3)), 0.75), (SpecialTokenIds(1), 0.375)):
        assert unknown_token_share(table_, special) == share


def test_the_table_shows_every_split_and_the_overlap(tmp_path):
    out = io.StringIO()
    made = report_on(tmp_path / "a.jsonl", ROWS)
    Console(file=out, width=160).print(make_data_table(made))
    text = out.getvalue()
    for expected in (
        "train", "validation", "2, 2, 2", "25.0%", "a 50.0%",
        "1 of 2 validation rows are also in train",
    ):  # fmt: skip
        assert expected in text
    (line,) = [line for line in format_split_accounting(made) if line.startswith("train")]
    assert "1 × empty text" in line


def test_held_out_rows_that_are_all_used_have_no_line(tmp_path):
    made = report_on(tmp_path / "a.jsonl", ROWS)
    assert [line.split()[0] for line in format_split_accounting(made)] == ["train", "validation"]
    made.cut = True
    assert [line.split()[0] for line in format_split_accounting(made)] == ["train"]
    made.splits["validation"].read += 1
    assert len(format_split_accounting(made)) == 2, "a row of it is not used"


def test_pairs_overlap_only_as_pairs(tmp_path):
    def rows(name, *lines):
        (tmp_path / name).write_text("\n".join(lines))
        config = DataConfig(
            name="x", train=str(tmp_path / name), validation=str(tmp_path / name),
            text=[0, 1], label=2, header=False,
        )  # fmt: skip
        return load_splits(config).train

    train = rows("a.csv", "a b,c,x", "d,e,y")
    assert count_overlap(train, rows("b.csv", "a,b c,x", "e,d,y")) == 0
    assert count_overlap(train, rows("c.csv", "a b,c,y", "a b,c,x")) == 2


def test_overlap_is_counted_in_pieces(monkeypatch):
    def rows(seed, count):
        words = np.random.default_rng(seed).choice(200, count)
        texts = pa.array([f" word {word} " for word in words], pa.large_string())
        return Rows(pa.table({"text": texts, "line": list(range(count))}), BadRows("here"))

    train, validation = rows(0, 120), rows(1, 90)
    expected = sum(text in set(train.column("text")) for text in validation.column("text"))
    assert 0 < expected < len(validation)
    for size in (7, 64, 1000):
        monkeypatch.setattr("bertft.data.statistics._CHUNK_ROWS", size)
        assert count_overlap(train, validation) == expected
