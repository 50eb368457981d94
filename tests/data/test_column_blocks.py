"""Large files in blocks of columns: the same rows and the same errors as row by row."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bertft.config.data import DataConfig
from bertft.data import data_sources
from bertft.data.column_blocks import ColumnBlock, array_values
from bertft.data.data_sources import open_file, records_to_table
from bertft.data.file_sets import FileSet
from bertft.data.readers import chunks
from bertft.data.rows import BadRows
from bertft.data.schema import build_row_schema
from bertft.errors import DataError

COLUMNS = {"text": "text", "label": "label"}


def _read(path: Path, config: DataConfig, in_blocks: bool):
    """The table, the accounting and the number of rows in blocks; or the error."""
    schema = build_row_schema(config)
    try:
        source = open_file(config, str(path), "data.train", schema)
        bad = source.new_accounting()
        assert isinstance(source.file_set, FileSet)
        reader = source.file_set.read_blocks if in_blocks else source.file_set.read
        items = list(reader(schema.columns, config, bad))
        in_block = sum(item.size for item in items if isinstance(item, ColumnBlock))
        table = records_to_table(items, schema, "train", bad)
        bad.check_row_counts(table.num_rows)
    except DataError as error:
        return str(error), None, 0
    # Reasons are counted in the order in which they are found, which differs within a block.
    accounting = json.loads(bad.to_json())
    return table.to_pydict(), accounting, in_block


def compare(path: Path, **changes) -> int:
    """Check that both ways give the same; returns the number of rows that were in blocks."""
    config = DataConfig(name="x", train=str(path), **(COLUMNS | changes))
    rows, accounting, _ = _read(path, config, in_blocks=False)
    block_rows, block_accounting, in_block = _read(path, config, in_blocks=True)
    assert block_rows == rows
    assert block_accounting == accounting
    return in_block


@pytest.fixture(autouse=True)
def several_threads():
    """Chunks are parsed ahead by several threads, also on a machine with one core."""
    count = pa.cpu_count()
    pa.set_cpu_count(3)
    yield
    pa.set_cpu_count(count)


@pytest.fixture(params=[16, 64, 1 << 22])
def small_chunks(request, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_BYTES", request.param)


SIMPLE = [
    ("a.csv", "text,label\n" + "a fine film,pos\ndull,neg\n" * 9, {}),
    ("a.csv", "\ufefftext,x,label\r\n" + "a fine film,1,pos\r\ndull,2,neg\r\n" * 9, {}),
    ("a.csv", 'label,text\n' + 'pos,"a, b"\nneg,"say ""hi"", or"\n"a","""b"""\nc,""\n' * 9, {}),
    ("a.csv", '"text","label"\n' + '"a","b"\n' * 20, {}),
    ("a.csv", "text;label\n" + "a;b\n" * 20, {"separator": ";"}),
    ("a.csv", "a fine film,1\n" * 20, {"text": 0, "label": 1}),
    ("a.csv", "text,label\n" + "a,1.5\nb,2\nc,x\n" * 20, {"task": "regression"}),
    ("a.csv", "a,b,label\n" + "x,y,1\nz,w\u241f,0\n" * 20, {"text": ["a", "b"]}),
    ("a.tsv", "text\tlabel\n" + 'a "b\tpos\n"c"\tneg\n' * 20, {}),
    ("a.tsv", "text\tlabel\n" + 'a "b\tpos\n' * 20, {"quoting": False}),
    ("a.csv.gz", "text,label\n" + "a fine film,pos\ndull,neg\n" * 9, {}),
    ("a.jsonl", '{"text": "a \\u00e9", "label": "b", "x": {"y": [1]}}\n' * 20, {}),
    ("a.jsonl", '{"text": "a", "label": 1}\n{"text": "b", "label": 0}\n' * 20, {}),
    ("a.jsonl", '{"text": "a", "label": 1}\n{"text": "b", "label": 1.5}\n' * 20,
     {"task": "regression"}),
]  # fmt: skip
UNUSUAL = [
    ("a.csv", "text,label\n" + "a,b\n" * 9 + "\n" + "c,d\n" * 9, {}),
    ("a.csv", "text,label\n" + "a,b\n" * 9 + 'x,"y"z\n' + "c,d\n" * 9, {}),
    ("a.csv", "text,label\n" + "a,b\n" * 9 + '""x,y\n' + "c,d\n" * 9, {}),
    ("a.csv", "text,label\n" + "a,b\n" * 9 + '5" tall,y\n6" tall,z\n' + "c,d\n" * 9, {}),
    ("a.csv", "text,label\n" + "a,b\n" * 9 + 'x"",y\n' + "c,d\n" * 9, {}),
    ("a.csv", "text,label\n" + "a,b\n" * 9 + '"x\n\ny,z",w\n' + "c,d\n" * 9, {}),
    ("a.csv", "text,label\n" + "a,b\n" * 9 + '"x\n' + "c,d\n" * 9, {}),
    ("a.csv", "text,label\n" + "a,b\n" * 9 + "x\ry,z\n" + "c,d\n" * 9, {}),
    ("a.csv", "text,label\n" + "a,b\n" * 9 + "x,y,z\nx\n" + "c,d\n" * 9, {}),
    ("a.csv", "text,label\n" + "a,b\n" * 9 + "text,label\n" + "c,d\n" * 9, {}),
    ("a.csv", "text,label\n" + "a,b\n" * 9 + "x\0,y\n \u3000\x1c,y\n,y\nx,\n" + "c,d\n" * 9, {}),
    ("a.csv", "text,label\n" + "a,b\n" * 9 + "[a],[b]\n" + "c,d\n" * 9, {}),
    ("a.csv", "text,label\n" + "a,b\n" * 9 + "long " * 40 + ",d\n" + "e,f\n" * 9, {}),
    ("a.csv", "\n\ntext,label\n" + "a,b\n" * 9, {}),
    ("a.csv", "sep=;\ntext;label\n" + "a;b\n" * 9, {}),
    ("a.csv", "text;label\n" + "a;b\n" * 9, {}),
    ("a.csv", "text,label\n" + "a,b\n" * 9 + "a\tb", {}),
    ("a.csv", "text,label\n", {}),
    ("a.csv", "other,label\na,b\n", {}),
    ("a.csv", "text,label\ra,b\rc,d\r", {}),
    ("a.csv", "text,label\n" + 'a\\"b,c\n' * 9, {"escapes": True}),
    ("a.csv", "text,label\n" + "a,b,c\na\n" * 9, {"ragged": True}),
    ("a.csv", "text,label\n" + "a|b,b\n" * 9 + "c,b|d\n" * 9, {"task": "multi_label"}),
    ("a.tsv", '"text"\t"label"\n' + "a\tb\n" * 9, {}),
    ("a.jsonl", '{"text": "a", "label": "b"}\n' * 9 + "\n{}\n[1]\n{\n" + '{"text": "c"}\n' * 9, {}),
    ("a.jsonl", '{"text": "a", "label": "b"}\n' * 9 + '{"text": 3, "label": "b"}\n' * 3, {}),
    ("a.jsonl", '{"text": "a", "label": "b"}\n' * 9 + '{"text": "x", "text": "y"}\n' * 3, {}),
    ("a.jsonl", '{"text": "a", "label": "b"}\n' * 9 + '{"x": {"y": 1, "y": 2}}\n' * 3, {}),
    ("a.jsonl", '{"text": "a", "label": "b"}\n' * 9 + '{"text": "\\ud83d\\0", "label": 1}\n', {}),
    ("a.jsonl", '{"text": "a", "label": "b"}\n' * 9 + '{"text": "\\u0000", "label": "b"}\n', {}),
    ("a.jsonl", '{"text": "a", "label": "b"}\n' * 9 + '{"text": "c"}{"text": "d"}\n' * 3, {}),
    ("a.jsonl", '{"text": "a", "label": 1}\n' * 9 + '{"text": "c", "label": 1.0}\n' * 9, {}),
    ("a.jsonl", '{"text": "a", "label": true}\n' * 9 + '{"text": "c", "label": null}\n' * 9, {}),
    ("a.jsonl", '{"text": "a", "label": 9007199254740993}\n' * 9
     + '{"text": "c", "label": 1e300}\n' * 9, {"task": "regression"}),
    ("a.jsonl", '{"text": ["a", "b"], "label": "b"}\n' * 19, {}),
    ("a.jsonl", '{"r": {"text": "a"}, "label": "b"}\n' * 19, {"text": "r.text"}),
    ("a.jsonl", "", {}),
]  # fmt: skip


def write(path: Path, content: str | bytes) -> Path:
    data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize(("name", "content", "changes"), [*SIMPLE, *UNUSUAL])
def test_blocks_have_the_rows_and_errors_of_the_reader(tmp_path, name, content, changes):
    compare(write(tmp_path / name, content), **changes)
    if not name.endswith(".gz"):
        compare(write(tmp_path / name, content.rstrip("\r\n")), **changes)
        damaged = content.encode("utf-8", "surrogatepass").replace(b"c", b"\xff")
        compare(write(tmp_path / name, damaged), **changes)


@pytest.mark.parametrize(("name", "content", "changes"), SIMPLE)
def test_simple_files_are_read_in_blocks(tmp_path, monkeypatch, name, content, changes):
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 64)
    rows = compare(write(tmp_path / name, content), **changes)
    assert rows >= 5, f"only {rows} rows"


FIELDS = st.text(st.sampled_from('ab",;\t\r\n \u3000\\é酒\0'), max_size=6)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    lines=st.lists(st.one_of(FIELDS, st.tuples(FIELDS, FIELDS).map(",".join)), max_size=20),
    separator=st.sampled_from([",", "\t"]),
    size=st.sampled_from([8, 32, 1 << 22]),
)
def test_any_table(tmp_path_factory, lines, separator, size):
    folder = tmp_path_factory.mktemp("any")
    content = "\n".join(["text,label", *lines]).replace(",", separator)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "CHUNK_BYTES", size)
        compare(write(folder / ("a.csv" if separator == "," else "a.tsv"), content))


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    rows=st.lists(
        st.dictionaries(
            st.sampled_from(["text", "label", "x"]),
            st.one_of(st.text(max_size=4), st.integers(), st.booleans(), st.none(), st.floats()),
        ),
        max_size=20,
    ),
    size=st.sampled_from([16, 64]),
)
def test_any_objects(tmp_path_factory, rows, size):
    first = {"text": "a", "label": "b"}
    content = "".join(json.dumps(row) + "\n" for row in [first, *rows])
    path = write(tmp_path_factory.mktemp("any") / "a.jsonl", content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "CHUNK_BYTES", size)
        compare(path)


def test_parquet_and_arrow(tmp_path):
    texts = ["a", " ", None, "b\0", "酒店", "", "\u3000", "c"] * 4
    labels = {
        "label": ["x", " y ", None, "[a]", "x", "x", "x", "x"] * 4,
        "number": [1, 0, None, 3, 4, 5, 6, 7] * 4,
        "real": [1.0, 0.5, None, 3.0, 4.0, 5.0, 6.0, float("nan")] * 4,
        "flag": [True, False, None, True, True, True, True, True] * 4,
    }
    for type_ in (pa.string(), pa.large_string(), pa.binary()):
        values = [None if text is None else text.encode() for text in texts]
        table = pa.table({"text": pa.array(values, pa.binary()).cast(type_), **labels})
        pa.parquet.write_table(table, tmp_path / "a.parquet", row_group_size=5)
        with pa.ipc.new_file(tmp_path / "a.arrow", table.schema) as writer:
            writer.write_table(table, max_chunksize=7)
        for name in ("a.parquet", "a.arrow"):
            for label in labels:
                assert compare(tmp_path / name, label=label) == 32


def test_strings_that_are_not_utf_8(tmp_path):
    """Few writers of Parquet check that strings are valid."""
    texts = pa.array([b"a", b"b \xff", None, "酒".encode(), b"d"] * 4)
    strings = pa.Array.from_buffers(pa.string(), len(texts), texts.buffers(), texts.null_count)
    valid = pa.array(["酒", "a", "b", "c", "d"] * 4)
    offsets = pa.array(range(len(texts) + 1), pa.int32())
    repeated = pa.DictionaryArray.from_arrays(pa.array([0, 1]), strings[:2])
    assert array_values(repeated) == ["a", "b \udcff"]
    columns = {"plain": strings, "listed": pa.ListArray.from_arrays(offsets, strings)}
    for name, column in columns.items():
        table = pa.table({"text": column, "label": valid})
        pa.parquet.write_table(table, tmp_path / "a.parquet", row_group_size=7)
        config = DataConfig(name="x", train=str(tmp_path / "a.parquet"), **COLUMNS)
        rows, accounting, _ = _read(tmp_path / "a.parquet", config, in_blocks=True)
        assert rows["text"] == ["a", "酒", "d"] * 4, name
        reason = "bytes that are not valid in the encoding"
        assert (accounting["read"], accounting["counts"].get(reason)) == (20, 4), name
    table = pa.table({"text": valid, "label": strings})
    pa.parquet.write_table(table, tmp_path / "a.parquet")
    assert compare(tmp_path / "a.parquet") == 20


def test_long_texts_of_parquet_are_read_in_small_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr("bertft.data.readers.parquet._BATCH_BYTES", 1_000)
    table = pa.table({"text": ["word " * 20] * 40, "label": ["a", "b"] * 20})
    pa.parquet.write_table(table, tmp_path / "a.parquet", use_dictionary=False)
    config = DataConfig(name="x", train=str(tmp_path / "a.parquet"), **COLUMNS)
    schema = build_row_schema(config)
    source = open_file(config, config.train, "data.train", schema)
    sizes = [block.size for block in source.read(source.new_accounting())]
    assert sum(sizes) == 40 and 1 < max(sizes) < 12


def test_several_files(tmp_path, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 64)
    folder = tmp_path / "parts"
    folder.mkdir()
    write(folder / "a.csv", "text,label\n" + "a,b\n" * 40 + ",c\n")
    write(folder / "b.jsonl", '{"text": "a", "label": "c"}\n' * 9 + '{"text": ""}\n')
    assert compare(folder) > 20
    assert compare(folder, label="@file") == 0


def test_a_block_that_the_schema_does_not_check_becomes_records():
    block = ColumnBlock(5, [pa.array(["a", "b"]), None], 2)
    assert list(block.records()) == [(5, ["a", None]), (6, ["b", None])]
    assert list(block.records(pa.array([1]))) == [(6, ["b", None])]
    config = DataConfig(name="x", task="token_classification", text="text", label="label")
    schema = build_row_schema(config)
    words = ColumnBlock(1, [pa.array(["EU rejects"]), pa.array(["B-ORG O"])], 1)
    bad = BadRows("x")
    assert data_sources.records_to_table([words], schema, "train", bad).num_rows + len(bad) == 1


@pytest.mark.parametrize("part_bytes", [1, 2, 7, 1 << 16])
def test_lines_are_counted_whatever_the_parts_of_a_chunk_are(monkeypatch, part_bytes):
    """A carriage return and its line feed can be in two parts."""
    monkeypatch.setattr(chunks, "_PART_BYTES", part_bytes)
    random_bytes = random.Random(0)
    for size in range(400):
        chunk = bytes(random_bytes.choices(b"a\n\r,", [8, 3, 1, 2], k=size % 20)) + b"\n"
        has_lone_return = b"\r" in chunk.replace(b"\r\n", b"\n")
        assert chunks.count_lines(chunk) == (None if has_lone_return else chunk.count(b"\n"))
    assert chunks.count_lines(b"a\0\n") is None
