"""Rows that cannot be used: named with file and line, or skipped and counted."""

from __future__ import annotations

import json

import pytest

from bertft.config.data import DataConfig
from bertft.data.splits import load_splits, load_unlabelled
from bertft.errors import DataError

pytestmark = pytest.mark.usefixtures("read_both_ways")

GOOD = b"fine,a\nalso fine,b\n"


def config(path, content: bytes, **settings) -> DataConfig:
    path.write_bytes(content)
    settings = {"text": 0, "label": 1, "validation": str(path), **settings}
    return DataConfig(name="files", train=str(path), **settings)


@pytest.mark.parametrize(
    ("row", "message", "reason"),
    [
        (b",a", "empty text", "empty text"),
        (b" \xe3\x80\x80 ,a", "empty text", "empty text"),  # an ideographic space
        (b"x,", "no label", "missing label"),
        (b"x", "1 column where 2 are expected", "wrong number of columns"),
        (b"x,a,y", "3 columns where 2 are expected", "wrong number of columns"),
        (
            b"caf\xe9,a",
            "the text contains bytes that are not valid in the encoding",
            "bytes that are not valid in the encoding",
        ),
        (
            b"x,\xff",
            "the label contains bytes that are not valid in the encoding",
            "bytes that are not valid in the encoding",
        ),
        (b"x\0y,a", "the text contains a NUL byte", "NUL byte"),
        (b"x,\0", "the label contains a NUL byte", "NUL byte"),
        (b'"x"y,a', "text after a closing quote", "text after a closing quote"),
        (b"x,c", "the label 'c' is not one of 'a', 'b'", "unknown label"),
    ],
)
def test_each_kind_is_named_or_skipped(tmp_path, row, message, reason):
    path = tmp_path / "a.csv"
    content = b"fine,a\n" + row + b"\nalso fine,b\n"
    with pytest.raises(DataError) as caught:
        load_splits(config(path, content, labels=["a", "b"]))
    assert f"a.csv:2: {message}" in str(caught.value)
    assert "data.on_bad_row=skip" in str(caught.value)
    assert ("data.encoding" in str(caught.value)) == ("encoding" in reason)
    train = load_splits(
        config(path, content, labels=["a", "b"], on_bad_row="skip", max_skipped=1.0)
    ).train
    assert train.column("text") == ["fine", "also fine"]
    assert train.column("line") == [1, 3]
    assert train.bad.counts == {reason: 1}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1]", "not a JSON object"),
        ('{"label": "a"}', "empty text"),
        ('{"text": null, "label": "a"}', "empty text"),
        ('{"text": 7, "label": "a"}', "the text is the number 7, not a string"),
        ('{"text": "x"}', "no label"),
        ('{"text": "x", "label": {"a": 1}}', "the label {'a': 1} is a mapping"),
        ('{"text": "\\ud83d", "label": "a"}', "the text contains an unpaired surrogate"),
        ('{"text": "x", "label": "\\u0000"}', "the label contains a NUL byte"),
    ],
)
def test_kinds_of_json_lines(tmp_path, line, message):
    rows = [json.dumps({"text": "fine", "label": label}) for label in "ab"]
    content = "\n".join([rows[0], line, rows[1]]).encode()
    settings = {"text": "text", "label": "label"}
    with pytest.raises(DataError) as caught:
        load_splits(config(tmp_path / "a.jsonl", content, **settings))
    assert f"a.jsonl:2: {message}" in str(caught.value)
    skipped = load_splits(
        config(tmp_path / "a.jsonl", content, on_bad_row="skip", max_skipped=1.0, **settings)
    )
    assert len(skipped.train) == 2


def test_the_first_of_many_and_their_number(tmp_path):
    content = GOOD + b",a\nx\n" * 500
    with pytest.raises(DataError) as caught:
        load_splits(config(tmp_path / "a.csv", content, validation=None))
    text = str(caught.value)
    assert text.startswith("1,000 bad rows")
    assert [f"a.csv:{line}:" in text for line in range(3, 9)] == [True] * 5 + [False]
    assert "500 × empty text, 500 × wrong number of columns" in text


def test_all_splits_are_reported_together(tmp_path):
    (tmp_path / "dev.csv").write_bytes(b"x,a\ny,c\n")
    (tmp_path / "test.csv").write_bytes(b"x,a\n,b\n")
    other = {"validation": str(tmp_path / "dev.csv"), "test": str(tmp_path / "test.csv")}
    with pytest.raises(DataError) as caught:
        load_splits(config(tmp_path / "a.csv", GOOD + b"x\n", **other))
    assert all(where in str(caught.value) for where in ("a.csv:3:", "dev.csv:2:", "test.csv:2:"))
    assert "3 bad rows" in str(caught.value)


def test_skipping_everything_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"no row can be used .2 × empty text.") as caught:
        load_splits(config(tmp_path / "a.csv", b",a\n,b\n", on_bad_row="skip", max_skipped=1.0))
    message = str(caught.value)
    assert "a.csv" in message and "a.csv:1: empty text" in message and "a.csv:2:" in message


def test_inputs_to_predict_are_checked_too(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\n\ntwo\n")
    with pytest.raises(DataError, match=r"a\.txt:2: empty text"):
        load_unlabelled(str(path), DataConfig(name="files"))
    rows = load_unlabelled(str(path), DataConfig(name="files", on_bad_row="skip", max_skipped=1.0))
    assert rows.column("line") == [1, 3]
