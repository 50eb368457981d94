"""Files that are not what their name or their beginning says: read right, or refused clearly."""

from __future__ import annotations

import codecs
import gzip
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from bertft.config.data import DataConfig
from bertft.data import prediction_rows
from bertft.data.readers import chunks, compressed_files, json_documents, squad_json, text_files
from bertft.data.rows import BadRows
from bertft.data.splits import load_splits, load_unlabelled
from bertft.errors import DataError

both_ways = pytest.mark.usefixtures("read_both_ways")

ROWS = [("酒店 good, really", "pos"), ("bad", "neg"), ("fine", "pos")]
JSON_LINES = "".join(
    json.dumps({"text": t, "label": k}, ensure_ascii=False) + "\n" for t, k in ROWS
)
JSON_ARRAY = json.dumps([{"text": t, "label": k} for t, k in ROWS], ensure_ascii=False)


def table(separator: str, quote: str = "") -> str:
    lines = [("text", "label"), *((f"{quote}{text}{quote}", label) for text, label in ROWS)]
    return "".join(separator.join(line) + "\n" for line in lines)


def read(path: Path, content: bytes | str | None = None, **settings):
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    data = DataConfig(name="x", train=str(path), validation=str(path), **settings)
    return load_splits(data).train


def pairs(rows) -> list[tuple[str, str]]:
    return list(zip(rows.column("text"), rows.column("label"), strict=True))


@both_ways
@pytest.mark.parametrize(
    ("name", "content", "notes"),
    [
        ("a.json", JSON_LINES, []),
        ("a.json", JSON_ARRAY, []),
        ("a.txt", table("\t"), []),
        ("a.txt", table(",", '"'), []),
        ("a.txt", table(";"), ["the columns are separated by semicolons, as in the header"]),
        ("a.csv", table("\t"), ["the columns are separated by tabs, as in the header"]),
        ("a.csv", table(";"), ["the columns are separated by semicolons, as in the header"]),
        ("a.csv", table("|"), ["the columns are separated by vertical bars, as in the header"]),
        ("a.tsv", table(",", '"'), ["the columns are separated by commas, as in the header"]),
        ("a.csv", "sep=;\n" + table(";"), []),
        ("a.csv", '\ufeff"sep=\t"\r\n' + table("\t"), []),
        ("a.csv", "\ufeff" + table(",", '"'), []),
        ("a.jsonl", "\ufeff" + JSON_LINES, []),
        ("a.json", "\ufeff" + JSON_ARRAY, []),
    ],
)  # fmt: skip
def test_the_content_decides(tmp_path, name, content, notes):
    rows = read(tmp_path / name, content)
    assert pairs(rows) == ROWS and rows.bad.notes == notes


def test_settings_override_what_is_detected(tmp_path):
    path = tmp_path / "a.csv"
    with pytest.raises(DataError, match="the only column is 'text;label'"):
        read(path, table(";"), separator=",")
    # By position, the first line does not have to be a header.
    with pytest.raises(DataError, match="columns are numbered from 0 to 0"):
        read(path, table("\t"), text=0, label=1)
    assert pairs(read(path, text=0, label=1, separator="tab", header=True)) == ROWS
    # Two separators could be meant.
    with pytest.raises(DataError, match=r"column 'text' not found"):
        read(path, "x;text|label;text|y\na;b|c;d|e\n", label="label;text")


def test_a_table_with_tabs_is_predicted_whatever_its_name(tmp_path):
    for name in ("a.txt", "a.csv"):
        (tmp_path / name).write_text(table("\t"), encoding="utf-8")
        rows = load_unlabelled(str(tmp_path / name), DataConfig(name="x"))
        assert rows.column("text") == [text for text, _ in ROWS]
        opened = prediction_rows.open_input_file(
            str(tmp_path / name), DataConfig(name="x"), keep=["label"]
        )
        records = opened.read(BadRows(name))
        assert [fields for _, fields in records] == [list(row) for row in ROWS]
    # A text that happens to contain the name of the column is a text.
    (tmp_path / "b.txt").write_text("Hello, text\nbye\n")
    rows = load_unlabelled(str(tmp_path / "b.txt"), DataConfig(name="x"))
    assert rows.column("text") == ["Hello, text", "bye"]


@both_ways
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", table(",", '"')),
        ("a.tsv", table("\t")),
        ("a.txt", table("\t")),
        ("a.jsonl", JSON_LINES),
        ("a.json", JSON_ARRAY),
        ("a.json", json.dumps(json.loads(JSON_ARRAY), indent=2, ensure_ascii=False)),
        ("a.csv.gz", table(",", '"')),
    ],
)
def test_a_byte_order_mark_states_the_encoding(tmp_path, name, content, encoding):
    encoded = ("\ufeff" + content.replace("\n", "\r\n")).encode(encoding)
    if name.endswith(".gz"):
        encoded = gzip.compress(encoded)
    assert pairs(read(tmp_path / name, encoded)) == ROWS
    assert pairs(read(tmp_path / name, encoding=encoding)) == ROWS


def test_utf_16_that_cannot_be_read_is_refused(tmp_path):
    content = table(",", '"').encode("utf-16-le")
    with pytest.raises(DataError, match=r"are NUL.*data\.encoding=utf-16-le"):
        read(tmp_path / "a.csv", "text,label\na,b\n".encode("utf-16-le"))
    with pytest.raises(DataError, match=r"a\.csv:4: the file is not valid utf-16"):
        read(tmp_path / "a.csv", codecs.BOM_UTF16_LE + content[:-1])
    with pytest.raises(
        DataError, match=r"byte order mark of utf-16, but data\.encoding is gb18030"
    ):
        read(tmp_path / "a.csv", codecs.BOM_UTF16_LE + content, encoding="gb18030")


@both_ways
@pytest.mark.parametrize("separator", [",", "\t"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_header_in_the_middle_is_a_bad_row(tmp_path, separator, mark):
    """Concatenated files: the second has its header, and maybe its byte order mark."""
    content = table(separator, '"' if separator == "," else "")
    path = tmp_path / ("a.csv" if separator == "," else "a.tsv")
    with pytest.raises(DataError, match=rf"{path.name}:5: the header is repeated"):
        read(path, content + mark + content)
    rows = read(path, on_bad_row="skip", max_skipped=1.0)
    assert pairs(rows) == ROWS + ROWS and rows.bad.counts == {"repeated header": 1}


def test_hidden_files_in_a_folder_are_not_read(tmp_path):
    folder = tmp_path / "parts"
    (folder / ".cache").mkdir(parents=True)
    for name in ("a.csv", "b.csv"):
        (folder / name).write_text(table(",", '"'), encoding="utf-8")
    for name in (".DS_Store", "._a.csv", ".cache/c.csv", "_SUCCESS", ".b.csv.swp"):
        (folder / name).write_bytes(b"\0\x05\x16\x07 not a table")
    for value in (folder, folder / "*.csv", folder / "**/*.csv", folder / "[!_]*"):
        rows = load_splits(DataConfig(name="x", train=str(value)), ("train",)).train
        assert len(rows) == 6 and len(rows.files) == 2, value
    with pytest.raises(DataError, match=r"_SUCCESS: the file has no extension.*To leave this file"):
        load_splits(DataConfig(name="x", train=f"{folder}/*"), ("train",))
    (folder / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
    with pytest.raises(DataError, match=r"Thumbs\.db: .*To leave this file out, set data\.train="):
        load_splits(DataConfig(name="x", train=str(folder)), ("train",))


def bomb(path: Path, beginning: str, character: str, size: int) -> None:
    """A compressed file of ``size`` bytes of ``character``; gzip allows repeated members."""
    block = (character.encode() * (1 << 20))[: 1 << 20]
    if path.suffix == ".gz":
        content = gzip.compress(beginning.encode()) + gzip.compress(block) * (size >> 20)
        path.write_bytes(content)
        return
    with pa.CompressedOutputStream(str(path), "zstd") as file:
        file.write(beginning.encode())
        for _ in range(size >> 20):
            file.write(block)


BOMBS = [
    ("a.csv.gz", "text,label\n", "a", "line has more than"),
    ("a.csv.gz", 'text,label\n"', "a" * 63 + "\n", "more than .* characters|expands to more than"),
    ("a.csv.gz", "", "\n", "expands to more than"),
    ("a.jsonl.gz", '{"text": "', "a", "line has more than"),
    ("a.json.gz", '[{"text": "', "a", "a value has more than"),
    ("a.json.gz", "[", " ", "expands to more than"),
    ("a.txt.gz", "", "a", "line has more than"),
]


@pytest.mark.parametrize(("name", "beginning", "character", "message"), BOMBS)
def test_a_small_file_that_expands_to_a_huge_one_is_refused(
    tmp_path, monkeypatch, name, beginning, character, message
):
    """With smaller limits; the next test has the real ones."""
    for module, limit, value in (
        (compressed_files, "_MIN_LIMIT", 1 << 21),
        (compressed_files, "MAX_EXPANSION", 20),
        (chunks, "CHUNK_BYTES", 1 << 14),
        (text_files, "MAX_LINE_CHARACTERS", 1 << 16),
        (json_documents, "_MAX_VALUE_CHARACTERS", 1 << 16),
        (json_documents, "_CHUNK_CHARACTERS", 1 << 12),
    ):
        monkeypatch.setattr(module, limit, value)
    bomb(tmp_path / name, beginning, character, 3 << 20)
    assert (tmp_path / name).stat().st_size < 50_000
    with pytest.raises(DataError, match=message) as raised:
        load_unlabelled(str(tmp_path / name), DataConfig(name="x"))
    assert len(str(raised.value)) < 1_000


_READ_IN_LITTLE_MEMORY = """
import resource, sys, time
from bertft.config.data import DataConfig
from bertft.data.splits import load_unlabelled
from bertft.errors import DataError
before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
try:
    load_unlabelled(sys.argv[1], DataConfig(name="x"))
except DataError as error:
    used = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
    print(used, time.monotonic() - start, str(error)[:300])
"""


@pytest.mark.long
@pytest.mark.parametrize(("name", "beginning", "character", "message"), BOMBS)
def test_gigabytes_in_megabytes_are_refused_in_bounded_memory(
    tmp_path, name, beginning, character, message
):
    if message.endswith("expands to more than"):
        # Three gigabytes are three megabytes with gzip, whose limit of 600 MB takes minutes.
        name = name.replace(".gz", ".zst")
    bomb(tmp_path / name, beginning, character, 3 << 30)
    result = subprocess.run(
        [sys.executable, "-c", _READ_IN_LITTLE_MEMORY, str(tmp_path / name)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    megabytes, _, *error = result.stdout.split(maxsplit=2)
    assert int(megabytes) < 1024 and any(
        part.split(".*")[0] in error[0] for part in message.split("|")
    ), result.stdout


def test_a_document_of_questions_has_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(squad_json, "_MAX_CHARACTERS", 1_000)
    config = DataConfig(name="x", task="question_answering")
    (tmp_path / "a.json").write_text('{"data": [' + " " * 1_000)
    with pytest.raises(DataError, match="the JSON document has more than 1,000 characters"):
        load_unlabelled(str(tmp_path / "a.json"), config)
