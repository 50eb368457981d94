"""Several files as one split: lists, patterns, folders, labels from names, compressed files."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import random
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from bertft.config.data import DataConfig
from bertft.config.data_files import resolve_files
from bertft.data import data_sources
from bertft.data.prediction_rows import InputErrors, check_rows, iter_row_blocks, open_input_file
from bertft.data.readers import compressed_files
from bertft.data.splits import load_splits, load_unlabelled
from bertft.data.standard_input import store_standard_input
from bertft.errors import BertftError, DataError


def csv(rows, header="text,label") -> str:
    return "\n".join([header, *(",".join(row) for row in rows)]) + "\n"


def jsonl(rows) -> str:
    return "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows)


def numbered(start, stop):
    return [(f"n{number}", "ab"[number % 2]) for number in range(start, stop)]


def data(value, **settings) -> DataConfig:
    return DataConfig(name="files", train=value, validation=value, **settings)


def read(value, **settings):
    return load_splits(data(value, **settings)).train


def refused(value, **settings) -> str:
    with pytest.raises(BertftError) as raised:
        read(value, **settings)
    assert raised.value.status == 2
    return str(raised.value)


def write(folder: Path, **contents) -> None:
    """Files of ``folder``: pos_1_txt="..." is pos/1.txt if it has two underscores."""
    for name, content in contents.items():
        path = folder / name.replace("__", ".").replace("_", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.fixture
def parts(tmp_path) -> Path:
    """Rows 0 to 29 in four files of three formats, with the columns in another order."""
    write(
        tmp_path, parts_a__csv=csv(numbered(0, 10)), parts_b__jsonl=jsonl(numbered(10, 15)),
        parts_c_d__csv=csv([row[::-1] for row in numbered(15, 25)], "label,text"),
    )  # fmt: skip
    texts, labels = zip(*numbered(25, 30), strict=True)
    table = pa.table({"text": texts, "label": labels})
    pa.parquet.write_table(table, tmp_path / "parts" / "c" / "e.parquet")
    return tmp_path / "parts"


@pytest.mark.usefixtures("read_both_ways")
@pytest.mark.parametrize("form", ["folder", "list", "pattern", "text of a list"])
def test_rows_are_in_the_order_of_the_files(parts, form):
    files = [str(parts / name) for name in ("a.csv", "b.jsonl", "c/d.csv", "c/e.parquet")]
    value = {
        "folder": str(parts), "list": files, "pattern": f"{parts}/**/*.*",
        "text of a list": f"[{','.join(files)}]",
    }[form]  # fmt: skip
    rows = read(value)
    texts, labels = zip(*numbered(0, 30), strict=True)
    assert rows.column("text") == list(texts) and rows.column("label") == list(labels)
    assert [rows.location(row).removeprefix(f"{parts}/") for row in (0, 9, 10, 15, 25, 29)] == [
        "a.csv:2", "a.csv:11", "b.jsonl:1", "c/d.csv:2", "c/e.parquet:1", "c/e.parquet:5",
    ]  # fmt: skip
    assert rows.files == tuple(os.path.realpath(file) for file in files)
    counts = rows.accounting()
    assert (counts["read"], counts["used"], counts["other_lines"]) == (30, 30, {"header": 2})


def test_a_list_has_its_own_order(parts):
    rows = read([str(parts / "b.jsonl"), str(parts / "a.csv")])
    assert rows.column("text")[:6] == ["n10", "n11", "n12", "n13", "n14", "n0"]


@pytest.mark.usefixtures("read_both_ways")
def test_errors_name_their_file_and_line(parts):
    write(
        parts,
        a__csv=csv([("x", "a"), (" ", "b"), ("y", "b", "z")]),
        b__jsonl=jsonl([("x", "a")]) + "[",
    )
    message = refused(str(parts))
    for location in ("a.csv:3: empty text", "a.csv:4: 3 columns", "b.jsonl:2: not JSON"):
        assert f"{parts}/{location}" in message
    rows = read(str(parts), on_bad_row="skip", max_skipped=1.0)
    counts = rows.accounting()
    assert (counts["read"], counts["used"]) == (20, 17)
    assert sum(counts["skipped"].values()) == 3
    message = refused(str(parts / "*"), text="review")
    assert "a.csv" in message and "'review' not found" in message


def test_columns_of_a_later_file_are_missing(parts):
    write(parts, b__jsonl='{"review": "a long text", "label": "a"}\n' * 30)
    with pytest.raises(DataError) as raised:
        read(str(parts))
    assert "b.jsonl: data.text: column 'text' not found" in str(raised.value)
    assert raised.value.proposed_settings == ["data.text=review"]


def test_rows_to_predict(parts):
    write(parts, b__jsonl='{"text": "x"}\n{"text": ""}\n')
    source = open_input_file(str(parts), DataConfig(name="x"), ["label", "@file", "@folder"])
    errors = InputErrors(source.name, source.unit, source.locations)
    [block] = iter_row_blocks(source, errors, 1_000, 1 << 20)
    assert [row.values[0] for row in block if row.values][:11] == [
        *(f"n{n}" for n in range(10)),
        "x",
    ]
    assert block[0].kept_values == ("a", "a", "parts") and block[-1].kept_values == ("b", "e", "c")
    (bad,) = [row for row in block if row.error]
    assert errors.location(bad.line) == f"{parts}/b.jsonl:2"
    assert bad.kept_values == (None, "b", "parts")
    assert errors.read == 27
    with pytest.raises(DataError, match=r"b\.jsonl:2: empty text"):
        check_rows(source, DataConfig(name="x"))
    for name, keep in (("b.jsonl", "all"), ("a.csv", "@file")):
        source = open_input_file(str(parts / name), DataConfig(name="x"), keep)
        assert source.kept_names == ("text" if keep == "all" else keep,)


def test_hidden_files_are_ignored(parts):
    for name in (".a.csv", "_SUCCESS", ".git/a.csv", "__MACOSX/b.csv", "c/.DS_Store"):
        path = parts / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"\0\1")
    assert len(read(str(parts))) == 30
    assert len(read(f"{parts}/*.*")) == 15, "a pattern selects hidden files only by their name"


def test_other_files_in_a_folder_are_refused(parts):
    (parts / "README.md").write_text("Read me")
    message = refused(str(parts))
    assert "README.md: unknown file extension .md" in message and "*.csv'" in message
    (parts / "README.md").rename(parts / "z.csv")
    assert "z.csv: data.text: column 'text' not found" in refused(str(parts))


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("*.tsv", "no file matches the pattern"), ("d.csv", "there is no such file"),
        (["a.csv", "d.csv"], "there is no such file"), (["a.csv", "./a.csv"], "is listed twice"),
        (["*.csv", "a.csv"], "is listed twice"), ("empty", "has no data files (names that begin"),
        ([], "neither a file nor a list of files"), ([3], "neither a file nor a list of files"),
        ("a.csv,b.jsonl", "data.train=[a.csv,b.jsonl]"),
    ],
)  # fmt: skip
def test_names_that_select_no_files(parts, monkeypatch, value, problem):
    monkeypatch.chdir(parts)
    (parts / "empty").mkdir()
    with pytest.raises(DataError) as raised:
        resolve_files(value, "data.train")
    assert problem in str(raised.value)


def test_names_with_the_characters_of_patterns(tmp_path):
    for name in ("[a].csv", "a*.csv", "[a,b]", "a?.csv"):
        (tmp_path / name).write_text("")
        assert resolve_files(str(tmp_path / name), "x") == [tmp_path / name]


def test_a_pattern_of_folders_means_their_files(parts):
    assert [file.name for file in resolve_files(f"{parts.parent}/p*", "x")] == [
        "a.csv", "b.jsonl", "d.csv", "e.parquet",
    ]  # fmt: skip


def test_a_header_in_the_first_of_several_files(tmp_path):
    """Each file repeats it, so that its label is not the only one of its kind."""
    for name in "abc":
        (tmp_path / f"{name}.csv").write_text(csv([("so good", "1"), ("so dull", "0")]))
    message = refused(str(tmp_path), text=0, label=1)
    assert "the first line may be a header" in message and "a.csv:1" in message
    assert len(read(str(tmp_path), text=0, label=1, header=True)) == 6


# ------------------------------------------------------------------ labels from names


MR = {"pos": "a fine film\na joy\n", "neg": "a bore\n\ndull\n"}


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (("rt-polarity.pos", "rt-polarity.neg"), ("pos", "neg")),
        (("pos.txt", "neg.txt"), ("pos", "neg")),
        (("plot.tok.gt9.5000", "quote.tok.gt9.5000"), ("plot", "quote")),
        (("pos.txt.gz", "neg.txt.gz"), ("pos", "neg")),
        (("good.pos", "bad.neg"), ("pos", "neg")),
    ],
)
def test_labels_from_the_names_of_files(tmp_path, names, labels):
    for name, content in zip(names, MR.values(), strict=True):
        content = content.replace("\n\n", "\n").encode()
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    rows = read([str(tmp_path / name) for name in names], label="@file")
    assert rows.column("text") == ["a fine film", "a joy", "a bore", "dull"]
    assert rows.column("label") == [labels[0]] * 2 + [labels[1]] * 2
    assert rows.location(3).endswith(f"{names[1]}:2")


def test_label_of_a_single_file_and_of_tables(tmp_path):
    write(tmp_path, sport__csv="text\na\nb\n", music__jsonl='{"text": "c"}\n')
    rows = read(str(tmp_path), label="@file")
    assert list(zip(rows.column("text"), rows.column("label"), strict=True)) == [
        ("c", "music"), ("a", "sport"), ("b", "sport"),
    ]  # fmt: skip
    mapping = {"sport": "Sport", "music": "Music"}
    assert read(str(tmp_path), label="@file", labels=mapping).column("label")[0] == "Music"
    write(tmp_path, one_test__pos="a\n", two_x__csv="text\nb\n")
    splits = load_splits(data(str(tmp_path / "one"), label="@file", labels=["neg", "pos"]))
    assert splits.validation.column("label") == ["pos"]


@pytest.mark.usefixtures("read_both_ways")
def test_labels_from_the_names_of_folders(tmp_path):
    """As IMDB: one text per file, which may have several lines."""
    write(
        tmp_path, train_pos_0__txt="so good\nreally\n", train_pos_1__txt="fine",
        train_neg_0__txt="a bore\r\n", train_neg_1="dull",
    )  # fmt: skip
    rows = read(str(tmp_path / "train"), label="@folder")
    assert rows.column("text") == ["a bore", "dull", "so good\nreally", "fine"]
    assert rows.column("label") == ["neg", "neg", "pos", "pos"]
    assert rows.accounting()["other_lines"]["further lines of a text"] == 1
    assert rows.location(2).endswith("pos/0.txt:1")
    lines = read(f"{tmp_path}/train/*/*.txt", label="@folder", format="text")
    assert lines.column("text") == ["a bore", "so good", "really", "fine"]
    to_predict = load_unlabelled(str(tmp_path / "train"), DataConfig(name="x", label="@folder"))
    assert to_predict.column("text") == rows.column("text")
    document = load_unlabelled(str(tmp_path / "train/pos"), DataConfig(name="x", format="document"))
    assert document.column("text") == ["so good\nreally", "fine"]


def test_documents_that_are_not_texts(tmp_path):
    write(tmp_path, d_pos_0__txt=b"\xff\xfe\0\0", d_pos_1__txt="x", d_neg_0__txt="y")
    assert "pos/0.txt" in refused(str(tmp_path / "d"), label="@folder")
    write(tmp_path, d_pos_0__txt=b"caf\xe9", d_pos_2__txt="\n")
    message = refused(str(tmp_path / "d"), label="@folder")
    assert "pos/0.txt:1: the text contains bytes" in message
    assert "pos/2.txt:1: empty text" in message


def test_the_row_cache_covers_names_from_which_labels_are_derived(tmp_path, monkeypatch):
    monkeypatch.setenv("BERTFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(data_sources, "MIN_CACHED_BYTES", 0)
    write(tmp_path, a_x__txt="one\n", a_y__txt="two\n")
    assert read(str(tmp_path / "a"), label="@file").column("label") == ["x", "y"]
    (tmp_path / "a" / "x.txt").rename(tmp_path / "a" / "w.txt")
    assert read(str(tmp_path / "a"), label="@file").column("label") == ["w", "y"]
    (tmp_path / "a" / "y.txt").write_text("three\n")
    assert read(str(tmp_path / "a"), label="@file").column("text") == ["one", "three"]
    (tmp_path / "a" / "y.txt").rename(tmp_path / "a" / "v.txt")
    assert read(str(tmp_path / "a"), label="@file").column("label") == ["v", "w"]


def test_the_fingerprint_covers_all_files(parts):
    first = read(str(parts)).fingerprint
    table = pa.parquet.read_table(parts / "c" / "e.parquet")
    pa.parquet.write_table(table.slice(0, 4), parts / "c" / "e.parquet")
    assert read(str(parts)).fingerprint != first


def test_class_names_of_parquet_files_must_agree(tmp_path):
    for name, classes in (("a", ["x", "y"]), ("b", ["y", "x"])):
        feature = {"label": {"names": classes, "_type": "ClassLabel"}}
        table = pa.table({"text": ["t", "u"], "label": [0, 1]}).replace_schema_metadata(
            {"huggingface": json.dumps({"info": {"features": feature}})}
        )
        pa.parquet.write_table(table, tmp_path / f"{name}.parquet")
    assert "b.parquet: does not declare the same class names" in refused(str(tmp_path))
    pa.parquet.write_table(pa.parquet.read_table(tmp_path / "a.parquet"), tmp_path / "b.parquet")
    assert read(str(tmp_path)).column("label") == ["x", "y", "x", "y"]


# ------------------------------------------------------------------ compressed files


def zstd(content: bytes) -> bytes:
    return pa.compress(content, codec="zstd", asbytes=True)


COMPRESSIONS = {
    ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstd,
}  # fmt: skip
ROWS = numbered(0, 500)
CONTENTS = {
    ".csv": csv(ROWS), ".tsv": csv(ROWS).replace(",", "\t"), ".jsonl": jsonl(ROWS),
    ".json": json.dumps([{"text": text, "label": label} for text, label in ROWS]),
    ".conll": "".join(f"{text} B-{label}\n\n" for text, label in ROWS),
}  # fmt: skip


@pytest.mark.parametrize("ending", COMPRESSIONS)
@pytest.mark.parametrize("kind", CONTENTS)
def test_every_text_format_can_be_compressed(tmp_path, kind, ending):
    path, compress = tmp_path / f"rows{kind}{ending}", COMPRESSIONS[ending]
    content = CONTENTS[kind].encode()
    middle = len(content) // 2
    task = "token_classification" if kind == ".conll" else "classification"
    for compressed in (compress(content), compress(content[:middle]) + compress(content[middle:])):
        path.write_bytes(compressed)
        assert read(str(path), task=task).column("text") == [text for text, _ in ROWS]
    rows = load_unlabelled(str(path), DataConfig(name="x", task=task))
    assert len(rows) == 500
    path.write_bytes(compress(content.decode().encode("utf-16")))
    assert len(read(str(path), task=task)) == 500  # its byte order mark states the encoding
    assert len(read(str(path), task=task, encoding="utf-16")) == 500


@pytest.mark.parametrize("ending", COMPRESSIONS)
def test_damaged_compressed_files_are_refused(tmp_path, ending):
    content = "".join(f"{random.Random(n).random()},a\n" for n in range(9_000)).encode()
    path, compressed = tmp_path / f"a.csv{ending}", COMPRESSIONS[ending](b"text,label\n" + content)
    contents = [compressed[:-20], compressed[: len(compressed) // 2], b"text,label\na,b\n"]
    if ending != ".zst":  # without a checksum, changed bytes may be valid
        contents.append(compressed[:5_000] + b"\0" * 500 + compressed[5_500:])
    for damaged in contents:
        path.write_bytes(damaged)
        assert "cannot be decompressed with" in refused(str(path), on_bad_row="skip")


def test_compressed_content_with_another_name(tmp_path):
    path = tmp_path / "a.csv"
    for ending, compress in COMPRESSIONS.items():
        path.write_bytes(compress(csv(ROWS).encode()))
        assert f"Rename it to a.csv{ending}" in refused(str(path))
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(gzip.compress(b"text,label\n")))
    assert "is compressed with gzip" in refused(str(tmp_path / "b.csv.gz"))
    (tmp_path / "c.parquet.gz").write_bytes(gzip.compress(b"PAR1"))
    assert "parquet files are not read in compressed form" in refused(
        str(tmp_path / "c.parquet.gz")
    )
    (tmp_path / "d.tar.gz").write_bytes(gzip.compress(b"x"))
    assert "unknown file extension .tar" in refused(str(tmp_path / "d.tar.gz"))


@pytest.mark.parametrize("ending", COMPRESSIONS)
def test_a_bomb_is_refused(tmp_path, monkeypatch, ending):
    monkeypatch.setattr(compressed_files, "_MIN_LIMIT", 1 << 12)
    monkeypatch.setattr(compressed_files, "MAX_EXPANSION", 20)
    path = tmp_path / f"a.csv{ending}"
    path.write_bytes(COMPRESSIONS[ending](b"text,label\n" + b"a,b\n" * 40_000))
    message = refused(str(path))
    assert "expands to more than" in message and "the limit for a compressed file" in message


def test_a_line_of_200_megabytes_does_not_fill_the_memory(tmp_path):
    path = tmp_path / "a.jsonl"
    with path.open("wb") as file:
        file.write(b'{"text": "a"}\n' * 500)
        file.truncate(200_000_000)  # zeros that take no space on the disk
    code = (
        "import resource, sys, pyarrow\n"
        "import bertft.tasks.shared.text_schema\n"
        "from bertft.config.data import DataConfig\n"
        "from bertft.data.splits import load_unlabelled\n"
        "from bertft.errors import DataError\n"
        "start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: load_unlabelled(sys.argv[1], DataConfig(name='x'))\n"
        "except DataError as error: print(error)\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start) // 1024)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    message, megabytes = done.stdout.splitlines()
    assert "a.jsonl:501: the line has more than 16,777,216 characters" in message, done.stderr
    assert int(megabytes) < 150


# ------------------------------------------------------------------ standard input of train


@pytest.mark.parametrize(
    ("content", "settings", "ending"),
    [
        (csv(ROWS), {}, ".csv"), (csv(ROWS).replace(",", "\t"), {}, ".tsv"),
        (jsonl(ROWS), {}, ".json"), (CONTENTS[".json"], {}, ".json"),
        (csv(ROWS).replace(",", ";"), {"separator": ";"}, ".csv"),
        (CONTENTS[".conll"], {"task": "token_classification"}, ".conll"),
        ("a text\nanother, text\n", {"task": "masked_lm"}, ".txt"),
        (csv(ROWS), {"task": "masked_lm"}, ".csv"),
        (csv(ROWS).replace(",", "\t"), {"format": "tsv"}, ".tsv"),
        ("a text\nanother text\n", {"task": "masked_lm", "format": "text"}, ".txt"),
    ],
)  # fmt: skip
def test_standard_input_is_stored_with_the_extension_of_its_format(
    tmp_path, content, settings, ending
):
    stream = io.BytesIO(content.encode())
    path = store_standard_input(stream, tmp_path / "rows", DataConfig(name="x", **settings))
    assert path == tmp_path / "rows" / f"stdin{ending}"
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert path.read_text() == content
    assert len(read(str(path), **settings)) == (2 if ending == ".txt" else 500)


def test_a_table_on_standard_input(tmp_path):
    sink = io.BytesIO()
    pa.parquet.write_table(pa.table({"text": ["a", "b"], "label": ["x", "y"]}), sink)
    path = store_standard_input(io.BytesIO(sink.getvalue()), tmp_path, DataConfig(name="x"))
    assert read(str(path)).column("label") == ["x", "y"]
    with pytest.raises(DataError, match="empty"):
        store_standard_input(io.BytesIO(b""), tmp_path, DataConfig(name="x"))
