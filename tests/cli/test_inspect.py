"""``bertft inspect``: what it prints is right, and the command that it prints trains."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from bertft.cli.app import main
from bertft.config.compose import ComposeRequest, compose_config, to_dataclass
from bertft.config.overrides import rewrite_overrides
from bertft.config.positional import expand_positional
from bertft.data.data_sources import read_records
from bertft.data.rows import BadRows
from bertft.data.schema import build_row_schema
from bertft.data.splits import load_splits

ROWS = [(f"a {'good' if n % 2 else 'bad'} film, number {n}", n % 2) for n in range(40)]
DATA = os.environ.get("BERTFT_DATA")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


def write_rows(name, rows=ROWS, header=("review", "stars")):
    lines = [",".join(header), *(f'"{text}",{label}' for text, label in rows)]
    Path(name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def inspected(capsys, *words):
    assert main(["inspect", *words, "output=json"]) == 0
    return json.loads(capsys.readouterr().out)


def composed(command: str):
    """The configuration of a printed command."""
    words = shlex.split(command)
    assert words[:2] == ["bertft", "train"]
    overrides = rewrite_overrides("train", expand_positional("train", words[2:]))
    return to_dataclass("train", compose_config(ComposeRequest("train", tuple(overrides))))


def test_all_facts_of_a_file(capsys):
    write_rows("a.csv", [*ROWS, ("", 1), (ROWS[0][0], 1)])
    result = inspected(capsys, "a.csv", "rows=2")
    assert result["format"] == {
        "name": "csv", "compression": None, "encoding": "utf-8", "separator": ",", "quoting": True,
        "header": True,
    }  # fmt: skip
    assert [(c["name"], c["role"], c["kind"], c["empty"]) for c in result["columns"]] == [
        ("review", "text", "text", 1), ("stars", "label", "0 or 1", 0),
    ]  # fmt: skip
    assert result["settings"] == {"text": "review", "label": "stars"}
    assert result["task"] == "classification" and "2 different" in result["task_reason"]
    assert result["labels"] == {"1": 21, "0": 20}
    assert result["sample"]["complete"] and result["sample"]["rows"] == 42
    tokens = result["tokens"]
    assert tokens["rows"] == 41 and tokens["max_length"] == 256 and tokens["cut_rows"] == 0
    assert tokens["lengths"]["max"] == 8 and tokens["unknown"] == 0
    kinds = [finding["kind"] for finding in result["findings"]]
    assert kinds == ["invalid_rows", "contradictory_duplicates", "duplicate_texts"]
    first = result["first_rows"][0]
    assert len(result["first_rows"]) == 2 and first["location"] == "a.csv:2"
    assert " ".join(first["tokens"]) == "[CLS] a bad film , number 0 [SEP]"
    assert result["command"] == (
        "bertft train a.csv data.text=review data.label=stars data.on_bad_row=skip"
        " data.max_skipped=0.03"
    )


def test_the_share_that_max_length_cuts(capsys):
    write_rows("a.csv", [*ROWS, *[("a film " * 100, 1)] * 10])
    tokens = inspected(capsys, "a.csv", "data.max_length=16")["tokens"]
    assert tokens["cut_rows"] == 0.2 and tokens["lengths"]["max"] == 202
    assert tokens["cut_tokens"] == pytest.approx(10 * 186 / (10 * 202 + 40 * 8))


@pytest.mark.parametrize(
    ("name", "words", "expected"),
    [
        ("a b.csv", [], {}),
        ("it's=1.csv", [], {}),
        ("data", ["data.format=csv"], {"format": "csv"}),
        ("a.csv", ["data.label=stars", "data.labels=[bad,good]"], {"labels": ["bad", "good"]}),
        ("a.csv", ["data.task=regression"], {"task": "regression"}),
        ("a.csv", ["data.max_length=64", "data.validation=dev.csv"], {"max_length": 64}),
        ("评论.csv", ["model=tiny"], {}),
    ],
)
def test_the_printed_command_is_complete(name, words, expected, capsys):
    write_rows(name)
    write_rows("dev.csv")
    word = name if "=" not in name else f"data.train={name}"
    config = composed(inspected(capsys, word, *words)["command"])
    assert config.data.train == name and config.data.text == "review"
    assert {key: getattr(config.data, key) for key in expected} == expected
    assert ("model=tiny" in words) == (config.model.name == "tiny")
    assert len(load_splits(config.data).train) >= 36


def test_a_model_that_is_not_on_this_machine(capsys, monkeypatch, folder):
    monkeypatch.setenv("HF_HUB_CACHE", str(folder / "hub"))
    write_rows("a.csv")
    result = inspected(capsys, "a.csv", "model.path=nobody/no-such-model")
    assert result["tokens"] is None and result["first_rows"] == []
    assert "nobody/no-such-model is not on this machine" in result["tokens_note"]
    assert result["command"].endswith(" model.path=nobody/no-such-model")


def test_the_printed_command_trains(capsys):
    write_rows("a.csv", [*ROWS, ("", 1)])
    words = shlex.split(inspected(capsys, "a.csv", "model=tiny")["command"])[1:]
    assert main([*words, "trainer.max_steps=1", "report=false", "hydra.run.dir=run"]) == 0
    assert "41 rows read = 36 used + 1 skipped (1 × empty text)" in capsys.readouterr().out


def test_separators_and_encodings_are_in_the_command(capsys):
    text = "review;stars\n" + "".join(f"电影{n}真的很好看很喜欢;{n % 2}\n" for n in range(40))
    Path("a.csv").write_bytes(text.encode("gb18030"))
    result = inspected(capsys, "a.csv")
    config = composed(result["command"])
    assert (config.data.separator, config.data.encoding) == (";", "gb18030")
    assert load_splits(config.data).train.column("text")[0] == "电影0真的很好看很喜欢"
    assert result["tokens"]["unknown"] > 0.05
    assert "unknown_tokens" in [finding["kind"] for finding in result["findings"]]


def test_a_byte_order_mark_needs_no_setting(capsys):
    write_rows("a.csv")
    Path("a.csv").write_text(Path("a.csv").read_text(), encoding="utf-16")
    result = inspected(capsys, "a.csv")
    assert result["format"]["encoding"] == "utf-16" and "data.encoding" not in result["command"]
    assert len(load_splits(composed(result["command"]).data).train) >= 36


def test_several_files_and_a_pattern(capsys):
    for name in ("a.csv", "b.csv"):
        write_rows(name)
    for word in ("*.csv", "data.train=[a.csv,b.csv]"):
        result = inspected(capsys, word)
        assert result["sample"]["files"] == 2 and result["sample"]["rows"] == 80
        assert len(load_splits(composed(result["command"]).data).train) == 72


@pytest.mark.parametrize(
    ("content", "settings"),
    [
        ("review,stars\n" + "a film,1\na bore,0\n" * 20, "data.text=review data.label=stars"),
        ("Ada B-PER\nsleeps O\n\n" * 30, "data.task=token_classification"),
        ("a film to see\na bore, so long\nnothing\nthe end\n", "data.task=masked_lm"),
        ("__label__pos a film\n__label__neg a bore\n" * 20, "data.format=fasttext"),
        ('{"text": "a film", "label": 1}\n{"text": "a bore", "label": 0}\n', ""),
    ],
)
def test_standard_input(content, settings, capsys, monkeypatch):
    stream = io.BytesIO(content.encode())
    monkeypatch.setattr("bertft.pipeline.inspection.standard_input_stream", lambda: stream)
    result = inspected(capsys, "-")
    assert result["command"] == f"bertft train - {settings}".strip()
    assert result["source"] == "stdin" and result["first_rows"][0]["location"].startswith("stdin")


def test_words_with_tags_and_questions(capsys):
    Path("a.conll").write_text("Ada B-PER\nsleeps O\n\n" * 30)
    result = inspected(capsys, "a.conll")
    assert " ".join(result["first_rows"][0]["tokens"]) == "[CLS] ada/B-PER sleeps [SEP]"
    assert result["labels"] == {"B-PER": 30, "O": 30}
    rows = [{"question": "Who?", "context": f"It was Ada in {n}.", "answers": {
        "text": ["Ada"], "answer_start": [7]}} for n in range(30)]  # fmt: skip
    Path("a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = inspected(capsys, "a.jsonl")
    assert result["first_rows"][0]["label"] == "Ada"
    tokens = " ".join(result["first_rows"][0]["tokens"])
    assert tokens == "[CLS] who ? [SEP] it was ada in 0 . [SEP]"
    assert result["tokens"]["max_length"] == 384


def test_a_large_file_is_sampled(capsys, monkeypatch):
    for name in ("_SAMPLE_BYTES", "_COMPLETE_BYTES"):
        monkeypatch.setattr(f"bertft.pipeline.inspection.{name}", 10_000)
    write_rows("a.csv", ROWS * 50)
    result = inspected(capsys, "a.csv")
    sample = result["sample"]
    assert not sample["complete"] and sample["sampled_bytes"] <= 10_000 and sample["rows"] < 400
    assert sample["total_rows"] == pytest.approx(2_000, rel=0.05)
    assert main(["inspect", "a.csv"]) == 0
    assert "a sample of" in capsys.readouterr().out


def test_the_text_fits_the_terminal(capsys, monkeypatch):
    write_rows("a.csv", [*ROWS, ("a very long text " * 400, 1), ("un cafÃ© ", 0)])
    for width in (80, 120):
        monkeypatch.setenv("COLUMNS", str(width))
        assert main(["inspect", "a.csv"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines[:-1])) <= width
        assert lines[-1] == "  bertft train a.csv data.text=review data.label=stars"
        flat = " ".join(" ".join(lines).split())
        for text in (
            "csv, encoding utf-8, columns separated by commas",
            "[CLS] a bad film",
            "0 21 (50.0%)",
            "reads them",
            "are UTF-8 read as another encoding",
        ):
            assert text in flat


def test_what_is_unclear_is_shown_with_the_error(capsys):
    write_rows("a.csv", [(n, n) for n in range(30)], ("id", "n"))
    assert main(["inspect", "a.csv"]) == 2
    printed = capsys.readouterr()
    assert "integer" in printed.out and "bertft train" not in printed.out
    assert "data.text" in printed.err and len(printed.err.splitlines()) <= 4
    assert main(["train", "a.csv"]) == 2
    assert "bertft inspect a.csv shows the columns" in capsys.readouterr().err


@pytest.fixture(scope="module")
def bad_inputs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bad inputs")
    (folder / "empty.csv").touch()
    (folder / "binary.csv").write_bytes(bytes(range(256)) * 100)
    (folder / "picture.csv").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    (folder / "broken.jsonl").write_text('{"text": "a", "label": 1\n' * 40)
    (folder / "broken.gz.csv").write_bytes(b"\x1f\x8b" + bytes(50))
    (folder / "broken.csv.gz").write_bytes(b"\x1f\x8b" + bytes(50))
    (folder / "broken.parquet").write_bytes(b"PAR1" + bytes(50))
    (folder / "bytes.csv").write_bytes(b"text,label\n" + b"\xff\xfe\x81\x9d,1\n" * 30)
    with open(folder / "line.csv", "wb") as file:  # sparse: 200 MB in one line
        file.write(b"text,label,")
        file.truncate(200_000_000)
    with open(folder / "row.csv", "wb") as file:
        file.write(b"text,label\n")
        for _ in range(20):
            file.write(b"a" * 1_000_000)
    with open(folder / "long.jsonl", "wb") as file:
        for _ in range(20):
            file.write(b"a" * 1_000_000)
    return folder


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "data.train: is missing. Write bertft inspect <file>"),
        (["missing.csv"], "there is no such file"),
        (["empty.csv"], "the file is empty"),
        (["binary.csv"], "is binary data, not text"),
        (["picture.csv"], "is an image"),
        (["broken.jsonl"], "no row can be used"),
        (["broken.gz.csv"], "is compressed with gzip"),
        (["broken.csv.gz"], "cannot be decompressed"),
        (["broken.parquet"], "not a valid Parquet file"),
        (["bytes.csv"], "not valid in the encoding"),
        (["line.csv"], "NUL"),
        (["long.jsonl"], "more than 16,777,216 characters"),
        (["row.csv"], "row.csv:2: the line has more than 16,777,216 characters"),
        (["a.csv", "b.csv"], "data.train=[a.csv,b.csv]"),
        (["data=sample"], "is not supported by inspect"),
        (["empty.csv", "output=yaml"], "'yaml' is not a valid value"),
    ],
)
def test_input_that_cannot_be_read(words, message, bad_inputs, capsys, monkeypatch):
    monkeypatch.chdir(bad_inputs)
    assert main(["inspect", *words]) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert error.startswith("error: ") and len(error.splitlines()) <= 8


def test_a_process_without_torch():
    """Standard input, the exit status, and no slow import."""
    write_rows("a.csv")
    code = (
        "import sys; from bertft.cli.app import main; status = main(['inspect', '-']);"
        "slow = {'torch', 'transformers', 'datasets'} & set(sys.modules);"
        "sys.exit(f'imported: {slow}' if slow else status)"
    )
    with open("a.csv") as rows:
        done = subprocess.run(
            [sys.executable, "-c", code], stdin=rows, capture_output=True, text=True
        )
    assert done.returncode == 0, done.stderr
    assert "bertft train - data.text=review data.label=stars" in done.stdout
    assert re.search(r"file +stdin", done.stdout)


DATA_SETS = {
    "sst2/dev.tsv": ("classification", 872, {"0", "1"}),
    "stsb/dev.csv": ("regression", 1_500, None),
    "wnut17/emerging.dev.conll": ("token_classification", 1_009, None),
    "squad_v2/train.json": ("question_answering", 6_078, None),
    "chnsenticorp/dev.tsv": ("classification", 1_200, {"0", "1"}),
}


@pytest.mark.realdata
@pytest.mark.skipif(not DATA, reason="BERTFT_DATA is not set")
@pytest.mark.parametrize("name", DATA_SETS)
def test_public_data_sets(name, capsys):
    task, rows, classes = DATA_SETS[name]
    result = inspected(capsys, f"{DATA}/{name}")
    assert (result["task"], result["sample"]["rows"]) == (task, rows)
    assert classes is None or set(result["labels"]) == classes
    assert len(result["first_rows"]) == 5 and result["first_rows"][0]["tokens"][0] == "[CLS]"
    config = composed(result["command"])
    schema = build_row_schema(config.data)
    records = read_records(Path(config.data.train), schema, config.data, BadRows(name))
    assert len([schema.parse(fields, "train", []) for _, fields in islice(records, 50)]) == 50
