"""Whatever bytes a file holds, the answer is rows or an error that says what is wrong."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertft.config.data import DataConfig
from bertft.data.splits import load_splits, load_unlabelled
from bertft.errors import BertftError

FRAGMENTS = st.sampled_from(
    [
        b'"', b",", b"\n", b"\r\n", b"\r", b"\t", b"text", b"label", b"a", b"\xff", b"\0",
        b"\xef\xbb\xbf", b"\xe9\x85\x92", b'{"text":"a","label":1}',
        b'{"text":"\\ud800","label":"b"}', b'{"text":"a","label":["\\udc80",["b"],0]}',
        b"[", b"1e999", b"NaN",
    ]
)  # fmt: skip
CONTENT = st.one_of(st.binary(max_size=200), st.lists(FRAGMENTS, max_size=40).map(b"".join))


COUNTS = [200, pytest.param(2_000, marks=pytest.mark.long)]


@pytest.mark.parametrize("count", COUNTS)
def test_any_bytes(count):
    settings(max_examples=count, deadline=None)(any_bytes)()


@given(
    content=CONTENT,
    ending=st.sampled_from([".csv", ".tsv", ".jsonl", ".parquet", ".txt"]),
    policy=st.sampled_from(["error", "skip"]),
    task=st.sampled_from(["classification", "regression", "multi_label"]),
    columns=st.sampled_from([("text", "label"), (0, 1)]),
)
def any_bytes(content, ending, policy, task, columns):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"any{ending}"
        path.write_bytes(content)
        config = DataConfig(
            name="files", train=str(path), task=task, on_bad_row=policy,
            text=columns[0], label=columns[1],
        )  # fmt: skip
        for read in (
            lambda: load_splits(config).items(),
            lambda: [("", load_unlabelled(str(path), config))],
        ):
            try:
                splits = read()
            except BertftError as error:
                assert error.status == 2  # noqa: PT017  (rows are as good an answer)
                str(error).encode()  # it can be printed
            else:
                for _, rows in splits:
                    assert all(text.strip() and "\0" not in text for text in rows.column("text"))
                    assert rows.fingerprint


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
TEXTS = st.lists(TEXT.filter(str.strip), min_size=1, max_size=20)


@pytest.mark.parametrize("count", COUNTS)
def test_csv_and_json_lines_round_trip(count):
    settings(max_examples=count, deadline=None)(written_and_read)()


@given(texts=TEXTS)
def written_and_read(texts):
    with tempfile.TemporaryDirectory() as folder:
        table = io.StringIO(newline="")
        writer = csv.writer(table, lineterminator="\n", quoting=csv.QUOTE_ALL)
        writer.writerows([["text"], *([text] for text in texts)])
        lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
        for name, content in (("a.csv", table.getvalue()), ("a.jsonl", lines)):
            path = Path(folder) / name
            path.write_bytes(content.encode())
            rows = load_unlabelled(str(path), DataConfig(name="files"))
            assert rows.column("text") == texts
