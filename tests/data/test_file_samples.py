"""A sample has rows of the file, with their lines, and is a file of the same format."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from bertft.config.data import DataConfig
from bertft.data import file_samples
from bertft.data.file_samples import sample_file
from bertft.data.file_sets import open_files
from bertft.data.rows import BadRows
from bertft.data.sampled_files import FileSampler
from bertft.data.schema import build_row_schema

MAX_BYTES = 20_000
COUNT = 2_000


def csv_text() -> str:
    """Every third text has a line break, a quote and a line that looks like a row."""
    texts = [
        f'"He said ""no"",\nfilm,{n},x\nand left {n}"' if n % 3 == 0 else f"a film number {n}"
        for n in range(COUNT)
    ]
    return "text,label\n" + "".join(f"{text},{n % 2}\n" for n, text in enumerate(texts))


CONTENTS = {
    "a.csv": csv_text(),
    "a.tsv": "text\tlabel\n" + "".join(f'a "film {n}\t{n % 2}\n' for n in range(COUNT)),
    "a.jsonl": "".join(
        json.dumps({"text": f"a film {n}", "label": n}) + "\n" for n in range(COUNT)
    ),
    "array.json": json.dumps([{"text": f"a film {n}", "label": n} for n in range(COUNT)]),
    "objects.json": "\n".join(
        json.dumps({"text": f"a film {n}", "label": n}, indent=1) for n in range(COUNT)
    ),
    "a.conll": "".join(f"Ada{n} B-PER\nsleeps O\n\n" for n in range(COUNT)),
    "squad.json": json.dumps({"version": "v2.0", "data": [
        {"title": "t", "paragraphs": [{"context": f"It was Ada in {n}.", "qas": [
            {"id": str(n), "question": "Who?", "answers": [{"text": "Ada", "answer_start": 7}]}
        ]}]} for n in range(COUNT)
    ]}),
}  # fmt: skip
TASKS = {"a.conll": "token_classification", "squad.json": "question_answering"}


def records(path: Path | str, sampler: FileSampler | None = None, **settings) -> dict[int, list]:
    """Line → fields of all rows, none of which is invalid."""
    task = TASKS.get(Path(path).name.removesuffix(".gz"), "classification")
    config = DataConfig(name="files", train=str(path), task=task, **settings)
    schema, bad = build_row_schema(config), BadRows(str(path))
    opened = (sampler.open if sampler else open_files)(str(path), "data.train", schema, config)
    result = dict(opened.read(schema.columns, config, bad))
    assert not bad.counts, bad.first_errors
    assert bad.read == len(result)
    return result


def sampled(path: Path, folder: Path, max_bytes: int = MAX_BYTES, **settings) -> FileSampler:
    folder.mkdir()
    config = DataConfig(name="files", train=str(path), **settings)
    return FileSampler(str(path), "data.train", config, folder, max_bytes)


@pytest.mark.parametrize("name", CONTENTS)
def test_a_sample_has_rows_of_the_file_at_their_lines(name, tmp_path):
    path = tmp_path / name
    path.write_text(CONTENTS[name], encoding="utf-8", newline="")
    sampler = sampled(path, tmp_path / "sample")
    everything, some = records(path), records(path, sampler)
    assert 20 < len(some) < len(everything) == COUNT
    assert all(everything[line] == fields for line, fields in some.items())
    assert not sampler.is_complete and sampler.samples[0].size <= MAX_BYTES
    if "json" not in Path(name).suffix or name.endswith("jsonl"):
        lines = list(everything)
        assert lines[0] in some and lines[-1] in some, "the blocks reach the end of the file"
        assert len(sampler.samples[0].block_starts) > 20


def test_a_small_file_is_read_completely(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(CONTENTS["a.csv"])
    sampler = sampled(path, tmp_path / "sample", 10_000_000)
    assert sampler.is_complete and sampler.samples[0].path == path
    assert len(records(path, sampler)) == COUNT


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "gb18030", "utf-8-sig"])
def test_other_encodings_are_cut_between_lines(encoding, tmp_path):
    path = tmp_path / "a.csv"
    text = "text,label\n" + "".join(f"电影 {n} 很好看,{n % 2}\n" for n in range(COUNT))
    path.write_bytes(text.encode(encoding))
    sampler = sampled(path, tmp_path / "sample", encoding=encoding)
    everything = records(path, encoding=encoding)
    some = records(path, sampler, encoding=encoding)
    assert 20 < len(some) < len(everything)
    assert all(everything[line] == fields for line, fields in some.items())


def test_the_beginning_of_a_compressed_file(tmp_path):
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(CONTENTS["a.csv"].encode()))
    sampler = sampled(path, tmp_path / "sample")
    everything, some = records(path), records(path, sampler)
    assert 20 < len(some) < COUNT
    assert all(everything[line] == fields for line, fields in some.items())


def test_escaped_quotes_do_not_open_a_field(tmp_path):
    path = tmp_path / "a.csv"
    rows = [f'"a \\"film {n}\\nof\nlines","{n % 2}"\n' for n in range(COUNT)]
    path.write_text("text,label\n" + "".join(rows), newline="")
    sampler = sampled(path, tmp_path / "sample", escapes=True)
    everything = records(path, escapes=True)
    some = records(path, sampler, escapes=True)
    assert 20 < len(some) and all(everything[line] == row for line, row in some.items())


def make_table() -> pa.Table:
    return pa.table({"text": [f"a film {n}" for n in range(COUNT)], "label": list(range(COUNT))})


def write_parquet(table: pa.Table, path: Path) -> None:
    pa.parquet.write_table(table, path, row_group_size=60)


def write_one_group(table: pa.Table, path: Path) -> None:
    pa.parquet.write_table(table, path)


def write_arrow(table: pa.Table, path: Path) -> None:
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=70)


def write_stream(table: pa.Table, path: Path) -> None:
    with pa.ipc.new_stream(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=70)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.parquet", write_parquet),
        ("b.parquet", write_one_group),
        ("a.arrow", write_arrow),
        ("b.arrow", write_stream),
    ],
)
def test_rows_of_parquet_and_arrow(name, write, tmp_path):
    path = tmp_path / name
    write(make_table(), path)
    sampler = sampled(path, tmp_path / "sample", 4_000)
    everything, some = records(path), records(path, sampler)
    assert 20 < len(some) < COUNT == sampler.samples[0].total_rows
    assert all(everything[line] == fields for line, fields in some.items())
    assert all(fields[1] == line - 1 for line, fields in some.items())


@pytest.mark.parametrize("content", ["a" * 100_000, "{" * 100_000, '["' + "a" * 100_000])
def test_a_file_without_a_place_to_cut_is_left_to_its_reader(content, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(content)
    sample = sample_file(path, tmp_path / "sample", MAX_BYTES, DataConfig(name="files"))
    assert sample.path == path


def test_long_lines_are_kept_whole(tmp_path):
    path = tmp_path / "a.csv"
    rows = "".join(f"{'word ' * 6_000}{n},{n % 2}\n" for n in range(40))
    path.write_text("text,label\n" + rows)
    sampler = sampled(path, tmp_path / "sample")
    everything, some = records(path), records(path, sampler)
    assert len(some) > 3 and all(everything[line] == fields for line, fields in some.items())


def test_an_error_in_a_document_is_left_to_its_reader(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('[{"text": "a"}, {"text": "b" "c"}, ' + '{"text": "d"}, ' * 10_000)
    sample = sample_file(path, tmp_path / "sample", MAX_BYTES, DataConfig(name="files"))
    assert sample.path == path


def test_many_files_are_sampled_evenly(tmp_path, monkeypatch):
    monkeypatch.setattr("bertft.data.sampled_files._MAX_FILES", 10)
    for label in ("neg", "pos"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for n in range(20):
            (tmp_path / "data" / label / f"{n}.txt").write_text(f"a {label} film {n}")
    config = DataConfig(name="files", train=str(tmp_path / "data"), label="@folder")
    folder = tmp_path / "sample"
    folder.mkdir()
    sampler = FileSampler(config.train, "data.train", config, folder, MAX_BYTES)
    schema, bad = build_row_schema(config), BadRows("")
    rows = list(sampler.open(config.train, "data.train", schema, config).read(
        schema.columns, config, bad
    ))  # fmt: skip
    assert [fields[1] for _, fields in rows] == ["neg"] * 5 + ["pos"] * 5
    assert len(sampler.paths) == 40 and not sampler.is_complete


def test_a_quote_that_is_never_closed_takes_little_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(file_samples, "_MAX_HEAD", 1 << 20)  # allocated as a whole
    path = tmp_path / "a.csv"
    path.write_text('text,label\n"' + "b\n" * 300_000)
    tracemalloc.start()
    try:
        sample = sample_file(path, tmp_path / "sample", 100_000, DataConfig(name="files"))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sample.path == path, "its reader reports the quote"
    assert peak < 8 << 20, "no list of its lines"
