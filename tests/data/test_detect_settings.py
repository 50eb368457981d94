"""The settings that read a file are detected for every format that training reads."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from bertft.config.data import DataConfig
from bertft.data.detect_settings import detect_container, detect_settings
from bertft.data.sampled_files import FileSampler

COUNT = 40
ROWS = [(f"a {'good' if n % 2 else 'bad'} film, number {n}", n % 2) for n in range(COUNT)]


def table(separator=",", header=("text", "label"), rows=ROWS) -> str:
    lines = [separator.join(header)] if header else []
    lines += [separator.join(f'"{v}"' if "," in str(v) else str(v) for v in row) for row in rows]
    return "\n".join(lines) + "\n"


def plain(text: str) -> str:
    return text.replace('"', "")


def objects(**keys) -> list[dict]:
    return [{name: value(text, label) for name, value in keys.items()} for text, label in ROWS]


def lines_of(values) -> str:
    return "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values)


REVIEWS = objects(review=lambda t, n: t, stars=lambda t, n: n)
NESTED = objects(review=lambda t, n: {"text": t}, label=lambda t, n: n)
SPANS = [{"text": "Ada sleeps", "label": [[0, 3, "PER"]]}] * COUNT
WORD_ROWS = "Sentence,Word,Tag\n" + "".join(f"{n},Ada,B-PER\n{n},sleeps,O\n" for n in range(COUNT))
CMRC = [{"context_id": "c", "context_text": f"故事{n}的主角是小明", "title": "t", "qas": [
    {"query_id": f"q{n}", "query_text": "主角是谁", "answers": ["小明"]}]} for n in range(COUNT)
]  # fmt: skip
WORDS = [{"tokens": ["Ada", "sleeps"], "ner_tags": ["B-PER", "O"]}] * COUNT
QUESTIONS = [
    {"question": f"Who is {n}?", "context": f"It was Ada in {n}.", "answers": {
        "text": ["Ada"], "answer_start": [7]}} for n in range(COUNT)
]  # fmt: skip
SQUAD = {"version": "1", "data": [{"paragraphs": [{"context": q["context"], "qas": [
    {"id": str(n), "question": q["question"], "answers": [{"text": "Ada", "answer_start": 7}]}
]} for n, q in enumerate(QUESTIONS)]}]}  # fmt: skip
CONLL = "EU B-ORG\nrejects O\nGerman B-MISC\n\nPeter B-PER\nsleeps O\n\n" * COUNT
CONLLU = "# text = A cat\n1\tA\ta\tDET\tDT\t_\n2\tcat\tcat\tNOUN\tNN\t_\n\n" * COUNT
FASTTEXT = "".join(f"__label__{'pos' if n else 'neg'} {t}\n" for t, n in ROWS)
TOPICS = "".join(f"__label__a __label__b{n} {t}\n" for t, n in ROWS)

CHINESE = [(f"电影{n}很好看真的很喜欢这部电影", n % 2) for n in range(COUNT)]

CASES = [
    ("a.csv", table(), {}, "csv"),
    ("a.csv", table(header=("review", "stars")), {"text": "review", "label": "stars"}, "csv"),
    ("a.csv", table(";", ("review", "stars")),
     {"separator": ";", "text": "review", "label": "stars"}, "csv"),
    ("a.csv", table(header=None), {"text": 0, "label": 1}, "csv"),
    ("a.csv", table(header=None, rows=[(t, f"so {t}", n / 2) for t, n in ROWS]),
     {"task": "regression", "text": [0, 1], "label": 2}, "csv"),
    ("a.csv", table(header=("review", "grade"), rows=[(t, n + 0.5 * (i % 3))
                                                      for i, (t, n) in enumerate(ROWS)]),
     {"task": "regression", "text": "review", "label": "grade"}, "csv"),
    ("a.csv", table(header=("comment", "toxic", "spam"), rows=[(t, n, 1 - n) for t, n in ROWS]),
     {"task": "multi_label", "text": "comment", "label": ["toxic", "spam"]}, "csv"),
    ("a.csv", table(header=("premise", "hypothesis", "gold_label"),
                    rows=[(t, f"so {t}", "yes" if n else "no") for t, n in ROWS]),
     {"text": ["premise", "hypothesis"], "label": "gold_label"}, "csv"),
    ("a.csv", table(header=("note",), rows=[(t.replace(",", ""),) for t, _ in ROWS]),
     {"task": "masked_lm", "text": "note"}, "csv"),
    ("a.csv", table().encode("utf-16"), {"encoding": "utf-16"}, "csv"),
    ("a.csv", table(rows=CHINESE).encode("gb18030"), {"encoding": "gb18030"}, "csv"),
    ("a.csv.gz", gzip.compress(table().encode()), {}, "csv"),
    ("a.tsv", plain(table("\t")), {}, "tsv"),
    ("a.txt", plain(table("\t")), {"format": "tsv"}, "tsv"),
    ("a.data", plain(table("\t")), {"format": "tsv"}, "tsv"),
    ("a", table(), {"format": "csv"}, "csv"),
    ("a.txt", table("|"), {"format": "csv", "separator": "|"}, "csv"),
    ("a.txt", "A film.\nA bore, so long\nNothing\n" * COUNT, {"task": "masked_lm"}, "text"),
    ("a.log", "A film.\nA bore, so long\nNothing\n" * COUNT,
     {"format": "text", "task": "masked_lm"}, "text"),
    ("a.jsonl", lines_of(REVIEWS), {"text": "review", "label": "stars"}, "jsonl"),
    ("a.jsonl", lines_of(NESTED), {"text": "review.text"}, "jsonl"),
    ("a.json", json.dumps(REVIEWS), {"text": "review", "label": "stars"}, "json"),
    ("a.json", json.dumps(REVIEWS, indent=1), {"text": "review", "label": "stars"}, "json"),
    ("a.json", lines_of(REVIEWS), {"text": "review", "label": "stars"}, "jsonl"),
    ("a.rows", lines_of(REVIEWS), {"format": "jsonl", "text": "review", "label": "stars"}, "jsonl"),
    ("a.jsonl", lines_of(WORDS),
     {"task": "token_classification", "text": "tokens", "label": "ner_tags"}, "jsonl"),
    ("a.jsonl", lines_of(QUESTIONS),
     {"task": "question_answering", "text": ["question", "context"], "label": "answers"}, "jsonl"),
    ("a.jsonl", lines_of(SPANS), {"task": "token_classification"}, "jsonl"),
    ("a.csv", WORD_ROWS, {"task": "token_classification", "text": "Word", "label": "Tag",
                          "sentence": "Sentence"}, "csv"),
    ("a.json", json.dumps(CMRC), {"task": "question_answering"}, "cmrc2018"),
    ("a.json", json.dumps(SQUAD), {"task": "question_answering"}, "squad"),
    ("a.conll", CONLL, {"task": "token_classification"}, "conll"),
    ("a.txt", CONLL, {"task": "token_classification"}, "conll"),
    ("a", CONLL, {"format": "conll", "task": "token_classification"}, "conll"),
    ("a.conllu", CONLLU, {"task": "token_classification", "text": 1, "label": 3}, "conll"),
    ("a.txt", FASTTEXT, {}, "fasttext"),
    ("a.ft", TOPICS, {"task": "multi_label"}, "fasttext"),
]  # fmt: skip


def detect(value: str | Path, folder: Path, **settings):
    config = DataConfig(name="files", train=str(value), **settings)
    folder.mkdir()
    path = Path(value)
    container = detect_container(path, config) if path.is_file() else {}
    for name, item in container.items():
        setattr(config, name, item)
    sampler = FileSampler(str(value), "data.train", config, folder, 1 << 20)
    result = detect_settings(sampler, config, frozenset(settings))
    result.detected = container | result.detected
    return result


@pytest.mark.parametrize(("name", "content", "expected", "format_name"), CASES)
def test_the_settings_of_a_file(name, content, expected, format_name, tmp_path):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    result = detect(path, tmp_path / "sample")
    assert result.error is None and result.detected == expected
    assert result.file_set.first.format.name == format_name
    assert len(result.splits.train) >= COUNT and not result.splits.train.bad.counts


def test_parquet_and_arrow(tmp_path):
    content = pa.table({"id": range(COUNT), "review": [t for t, _ in ROWS],
                        "stars": [n for _, n in ROWS]})  # fmt: skip
    pa.parquet.write_table(content, tmp_path / "a.parquet")
    pa.parquet.write_table(content, tmp_path / "a.table")
    with pa.ipc.new_file(str(tmp_path / "a.arrow"), content.schema) as writer:
        writer.write_table(content)
    columns = {"text": "review", "label": "stars"}
    for name, expected in (
        ("a.parquet", columns), ("a.arrow", columns), ("a.table", {"format": "parquet", **columns}),
    ):  # fmt: skip
        result = detect(tmp_path / name, tmp_path / f"sample of {name}")
        assert result.detected == expected and len(result.splits.train) == COUNT


@pytest.mark.parametrize(
    ("names", "setting"),
    [
        (["pos/0.txt", "pos/1.txt", "neg/0.txt", "neg/1.txt"], "@folder"),
        (["pos.txt", "neg.txt"], "@file"),
        (["rt.pos", "rt.neg"], "@file"),
    ],
)
def test_labels_in_the_names_of_files_and_folders(names, setting, tmp_path):
    for name in names:
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("a film to see\n" * 3)
    result = detect(tmp_path / "data", tmp_path / "sample")
    assert result.error is None and result.detected == {"label": setting}
    assert set(result.splits.class_names) == {"pos", "neg"}
    configured = detect(tmp_path / "data", tmp_path / "second sample", label=setting)
    assert configured.error is None and configured.detected == {}  # still classification
    assert set(configured.splits.class_names) == {"pos", "neg"}


def test_configured_settings_are_kept(tmp_path):
    (tmp_path / "a.csv").write_text(table(header=("review", "stars")))
    result = detect(tmp_path / "a.csv", tmp_path / "sample", task="regression", text="review")
    assert result.detected == {"label": "stars"}
    assert (result.config.task, result.config.text) == ("regression", "review")


def test_a_configured_column_that_does_not_exist_is_an_error(tmp_path):
    (tmp_path / "a.csv").write_text(table())
    result = detect(tmp_path / "a.csv", tmp_path / "sample", text="body")
    assert "'body' not found" in str(result.error) and result.splits is None
    assert result.file_set.first.format.name == "csv"


def test_blank_lines_are_not_read_row_by_row(tmp_path, monkeypatch):
    def refuse(*_args, **_options):
        raise AssertionError("millions of blank lines would be read several times")

    monkeypatch.setattr("bertft.data.readers.csv_reader.iter_lines", refuse)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"\n \n" * 50_000))
    detected = detect(tmp_path / "a.csv.gz", tmp_path / "samples")
    assert str(detected.error) == f"{tmp_path / 'a.csv.gz'}: the file is empty"


def test_invalid_rows_are_counted(tmp_path):
    (tmp_path / "a.csv").write_text(table() + ",1\nonly one\n")
    result = detect(tmp_path / "a.csv", tmp_path / "sample")
    bad = result.splits.train.bad
    assert dict(bad.counts) == {"empty text": 1, "wrong number of columns": 1}
    assert bad.location(bad.first_errors[0][0]).endswith(f"a.csv:{COUNT + 2}")
