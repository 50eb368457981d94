"""Rows are conserved: whatever a file's format and size, rows read = rows used + rows skipped.

Every row carries its number as its text, so that one lost, moved or read twice is found.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from bertft.config.data import DataConfig
from bertft.data import data_sources, features
from bertft.data.prediction_rows import (
    InputErrors,
    InputRow,
    PredictionInput,
    iter_row_blocks,
    open_input_file,
)
from bertft.data.readers import json_lines
from bertft.data.rows import BadRows, Rows
from bertft.data.splits import load_splits, load_unlabelled
from bertft.data.standard_input import open_standard_input
from bertft.errors import DataError

COUNTS = (1, 2, 99, 100, 101, 102, 1_000)
BAD = (0, 1, 98, 99, 100, 101, 998, 999)  # numbers of rows with an empty text

Texts = Sequence[str]


def _csv(texts: Texts) -> str:
    file = io.StringIO()
    csv.writer(file).writerows([("text", "label"), *zip(texts, _labels(texts), strict=True)])
    return file.getvalue()


def _tsv(texts: Texts) -> str:
    rows = zip(texts, _labels(texts), strict=True)
    return "text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in rows)


def _jsonl(texts: Texts) -> str:
    rows = zip(texts, _labels(texts), strict=True)
    return "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows)


def _json(texts: Texts) -> str:
    rows = zip(texts, _labels(texts), strict=True)
    return json.dumps([{"text": text, "label": label} for text, label in rows])


def _squad(texts: Texts) -> str:
    """One paragraph per three questions; the number is in the question."""
    paragraphs = [
        {
            "context": "here",
            "qas": [
                {"id": text, "question": text, "answers": [{"text": "here", "answer_start": 0}]}
                for text in texts[at : at + 3]
            ],
        }
        for at in range(0, len(texts), 3)
    ]
    return json.dumps({"data": [{"paragraphs": paragraphs}]})


def _conll(texts: Texts) -> str:
    """A sentence of one word per row; an empty text is a word without its tag."""
    return "\n".join(f"{text} B-X\n" if text else "lost\n" for text in texts)


def _questions(texts: Texts) -> str:
    rows = [{"id": text, "question": text, "context": "here", "answer": "here"} for text in texts]
    return "".join(json.dumps(row) + "\n" for row in rows)


def _labels(texts: Texts) -> list[str]:
    return ["ab"[number % 2] for number in range(len(texts))]


# Name → ending, task, what writes it, the column with the number.
FORMATS: dict[str, tuple[str, str, Callable[[Texts], str] | None, str]] = {
    "csv": (".csv", "classification", _csv, "text"),
    "tsv": (".tsv", "classification", _tsv, "text"),
    "jsonl": (".jsonl", "classification", _jsonl, "text"),
    "json": (".json", "classification", _json, "text"),
    "parquet": (".parquet", "classification", None, "text"),
    "conll": (".conll", "token_classification", _conll, "text"),
    "squad": (".json", "question_answering", _squad, "question"),
    "questions": (".jsonl", "question_answering", _questions, "question"),
}


def numbered(count: int) -> list[str]:
    return [f"n{number}" for number in range(count)]


def written(folder: Path, kind: str, texts: Texts) -> tuple[Path, str, str]:
    ending, task, write, column = FORMATS[kind]
    path = folder / f"rows{ending}"
    if write is None:
        pa.parquet.write_table(pa.table({"text": texts, "label": _labels(texts)}), path)
    else:
        path.write_text(write(texts), encoding="utf-8", newline="")
    return path, task, column


def to_learn(path: Path, task: str, **settings) -> Rows:
    data = DataConfig(name="x", task=task, train=str(path), **settings)
    actual = load_splits(data, ("train",)).train
    assert actual is not None
    return actual


def to_distill(path: Path, task: str, **settings) -> Rows:
    return load_unlabelled(str(path), DataConfig(name="x", task=task, **settings))


def to_predict(rows: PredictionInput, errors: InputErrors) -> list[InputRow]:
    blocks = iter_row_blocks(rows, errors, 1_000, 1 << 20)
    return [row for block in blocks for row in block]


def check(rows: Rows, column: str, used: Texts, skipped: int) -> None:
    assert rows.column(column) == list(used)
    counts = rows.accounting()
    assert (counts["read"], counts["used"]) == (len(used) + skipped, len(used))
    assert sum(counts["skipped"].values()) == skipped and not counts["unused"]


@pytest.mark.usefixtures("read_both_ways")
@pytest.mark.parametrize("kind", FORMATS)
def test_good_rows_are_all_used(tmp_path, kind):
    for count in COUNTS:
        texts = numbered(count)
        path, task, column = written(tmp_path, kind, texts)
        check(to_distill(path, task), column, texts, 0)
        if count > 1:
            check(to_learn(path, task), column, texts, 0)


@pytest.mark.usefixtures("read_both_ways")
@pytest.mark.parametrize("kind", FORMATS)
def test_bad_rows_are_skipped_and_no_others(tmp_path, kind):
    skip = {"on_bad_row": "skip", "max_skipped": 1.0}
    for count in COUNTS[2:]:
        bad = {number for number in BAD if number < count}
        if kind == "conll":
            bad.remove(0)  # its first line says how many columns there are
        texts = ["" if number in bad else text for number, text in enumerate(numbered(count))]
        path, task, column = written(tmp_path, kind, texts)
        good = [text for text in texts if text]
        rows = to_distill(path, task, **skip)
        check(rows, column, good, len(bad))
        # The output of predict has an entry for every invalid row.
        input_rows = open_input_file(str(path), DataConfig(name="x", task=task))
        predicted = to_predict(input_rows, InputErrors(input_rows.name))
        assert [row.error is not None for row in predicted] == [n in bad for n in range(count)]
        assert len({row.line for row in predicted}) == count
        check(to_learn(path, task, **skip), column, good, len(bad))


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_without_rows_is_an_error(tmp_path, kind):
    path, task, _ = written(tmp_path, kind, [])
    with pytest.raises(DataError, match=r"empty|no rows"):
        to_learn(path, task)


@pytest.mark.parametrize("end", ["", "\n", "\n\n  \n"])
def test_standard_input_may_end_without_a_line_break(end):
    for count in COUNTS:
        content = _jsonl(numbered(count)).removesuffix("\n") + end
        rows = open_standard_input(io.BytesIO(content.encode()), DataConfig(name="x"))
        errors = InputErrors(rows.name)
        assert [row.values[0] for row in to_predict(rows, errors)] == list(numbered(count))
        assert errors.blank_lines == (2 if end.count("\n") == 3 else 0)


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
def test_lines_are_rows_blank_lines_and_others(tmp_path, kind):
    path, task, column = written(tmp_path, kind, numbered(30))
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n\n".join(lines[:10]) + "\n" + "\n".join(lines[10:]) + "\n\n")
    rows = to_learn(path, task)
    check(rows, column, numbered(30), 0)
    counts = rows.accounting()
    others = sum(counts["other_lines"].values())
    assert counts["blank_lines"] == 10
    assert counts["read"] + counts["blank_lines"] + others == path.read_text().count("\n")


@pytest.mark.parametrize("kind", FORMATS)
def test_around_the_block_of_a_table(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(data_sources, "_CHUNK_ROWS", 8)
    monkeypatch.setattr(json_lines, "KEY_SAMPLE_OBJECTS", 8)
    for count in (7, 8, 9, 15, 16, 17):
        texts = ["" if number == 8 else text for number, text in enumerate(numbered(count))]
        path, task, column = written(tmp_path, kind, texts)
        rows = to_distill(path, task, on_bad_row="skip", max_skipped=1.0)
        check(rows, column, [text for text in texts if text], int(count > 8))


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_around_the_real_block(tmp_path, kind):
    texts = numbered(65_537)
    path, task, column = written(tmp_path, kind, texts)
    check(to_distill(path, task), column, texts, 0)


def test_files_around_the_minimum_cached_size(tmp_path, monkeypatch):
    monkeypatch.setenv("BERTFT_CACHE", str(tmp_path / "cache"))
    limit = data_sources.MIN_CACHED_BYTES
    for size in (limit - 1, limit, limit + 1):
        texts = [f"n{number} {'x' * 4_000}" for number in range(250)]
        rest = size - len(_tsv([*texts, ""]).encode())
        texts.append("y" * rest)
        path, task, column = written(tmp_path, "tsv", texts)
        assert path.stat().st_size == size
        for _ in range(2):
            check(to_learn(path, task), column, texts, 0)


def test_held_out_and_unsampled_rows_are_counted(tmp_path):
    path, task, _ = written(tmp_path, "csv", numbered(1_000))
    data = DataConfig(name="x", task=task, train=str(path), max_train_rows=50)
    splits = load_splits(data)
    train, validation = splits.train.accounting(), splits.validation.accounting()
    assert (train["read"], train["used"]) == (1_000, 50)
    assert train["unused"] == {
        "held out for validation": 100, "not drawn (data.max_train_rows)": 850,
    }  # fmt: skip
    assert (validation["read"], validation["used"], validation["unused"]) == (100, 100, {})


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_more_than_a_share_of_bad_rows_is_an_error(tmp_path, split):
    texts = ["" if number < 10 else text for number, text in enumerate(numbered(1_000))]
    files = {name: str(tmp_path / f"{name}.csv") for name in ("train", "validation", "test")}
    for name, path in files.items():
        Path(path).write_text(_csv(texts if name == split else texts[10:]))
    data = DataConfig(name="x", on_bad_row="skip", **files)
    assert len(dict(load_splits(data).items())[split]) == 990, "1 % may be skipped"
    Path(files[split]).write_text(_csv(["", *texts[:-1]]))
    with pytest.raises(DataError) as raised:
        load_splits(data)
    content = str(raised.value)
    for expected in (
        f"{files[split]}: 11 of 1,000 rows cannot be used (11 × empty text)",
        "more than data.max_skipped=0.01 allows", f"{files[split]}:2: empty text",
        "data.max_skipped=0.02",
    ):  # fmt: skip
        assert expected in content
    assert load_splits(DataConfig(name="x", on_bad_row="skip", max_skipped=0.02, **files))


def test_a_row_lost_on_its_way_is_a_bug(tmp_path, monkeypatch):
    path, task, _ = written(tmp_path, "jsonl", numbered(120))
    whole = json_lines.parse_lines

    def lossy(*args):
        yield from (record for number, record in enumerate(whole(*args)) if number != 50)

    monkeypatch.setattr(json_lines, "parse_lines", lossy)
    with pytest.raises(RuntimeError, match="120 rows read, but 119 used, 0 skipped"):
        to_learn(path, task)


def test_features_around_their_block():
    for count in (1, features.CHUNK_ROWS - 1, features.CHUNK_ROWS, features.CHUNK_ROWS + 1):
        rows = Rows(
            pa.table({"text": numbered(count), "line": range(1, count + 1)}), BadRows("here")
        )

        def encode(piece):
            numbers = [int(text[1:]) for text in piece["text"]]
            return {"input_ids": [[number] for number in numbers], "row": range(len(numbers))}

        table = features.featurize(rows, encode, [], None)
        assert (
            table.read_column("input_ids").tolist()
            == table.read_column("row").tolist()
            == [*range(count)]
        )
